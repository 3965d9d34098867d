// Command mecha-control is mecha's control plane: it serves Envoy resources from a
// folder of YAML files to proxies over xDS.
//
// Each subcommand is one file here and a thin shell over a package that can be
// tested without it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := newRoot(os.Stderr).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mecha-control:", err)
		os.Exit(1)
	}
}

// newRoot builds the command tree; logs go to log.
func newRoot(log io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "mecha-control",
		Short: "The control plane of mecha",
		Long: `mecha-control tells proxies what to do: it serves Envoy resources (listeners,
routes, clusters, endpoints) over xDS v3, to mecha and to Envoy alike. With --identity
it also gives workloads certificates, which are renewed before they expire.

Start with a folder of YAML files:

  mecha-control check --dir ./config
  mecha-control serve --dir ./config --listen 127.0.0.1:18000`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(log), newCheck(), newIdentity())
	return root
}
