package main

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/cmd/mecha/demo"
)

// demoCommand is "mecha demo".
func demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show what mecha does, with a small shop on this machine",
		Long: `Put a mesh around a small shop of plain programs and show what it does for them:
traffic captured as it is, a split changed while requests flow, retries, a
timeout, a TCP service, an excluded port, mutual TLS between sidecars with
certificates that are replaced. It ends by itself in under a minute and leaves
nothing behind. Neither root nor a cluster is needed; where the kernel does not
allow namespaces, it shows what is possible without, and says why.

The exit code is 0 when everything measured was as expected.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if err := o.Programs(self); err != nil {
				return err
			}
			o.Out, o.Name = cmd.OutOrStdout(), os.Args[0]
			o.Proxy, o.Stage = []string{"/proc/self/exe", "proxy"}, selfCommand()
			o.Guard = []string{"/proc/self/exe", "demo", demo.GuardName}
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
			defer stop()
			// The second signal ends the demo at once; its children end with it.
			context.AfterFunc(ctx, stop)
			err = demo.Run(ctx, o)
			switch {
			case errors.Is(err, demo.ErrFailed):
				return errReported
			case ctx.Err() != nil && errors.Is(err, context.Canceled):
				return codedError{errors.New("demo: interrupted"), 130}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "leave the shop open afterwards, until Ctrl-C")
	cmd.Flags().BoolVar(&o.NoCapture, "no-capture", false, "use loopback listeners in place of capture")
	cmd.AddCommand(&cobra.Command{
		Use: demo.GuardName, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return demo.Guard(os.Stdin, os.Stdout) },
	})
	return cmd
}
