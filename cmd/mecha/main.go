// Command mecha is the data plane: the proxy, and the tools around it. Called
// as envoy, or with one of Envoy's flags first, it is a stand-in for Envoy's
// binary with Envoy's command line.
//
// Nothing is decided here: main reads the command line and hands an Options to
// the part that does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/spf13/cobra"
)

// program is the process: its outputs, and the engine it starts.
type program struct {
	stdout, stderr io.Writer
	// serve runs the proxy until ctx ends (modes serve and init_only).
	serve func(ctx context.Context, o Options) error
	// verify builds what a bootstrap describes, without opening anything, and
	// says what is wrong with it. Nil checks the bootstrap's form only.
	verify func(b *bootstrapv3.Bootstrap, o Options) error
}

func main() {
	p := program{stdout: os.Stdout, stderr: os.Stderr, serve: runProxy, verify: verifyEngine}
	os.Exit(p.run(context.Background(), os.Args))
}

// run executes a command line, argv[0] first, and returns the exit code.
func (p program) run(ctx context.Context, argv []string) int {
	name, args := "mecha", argv[min(1, len(argv)):]
	if len(argv) > 0 {
		name = argv[0]
	}
	var err error
	if filepath.Base(name) == "envoy" || isEnvoyInvocation(args) {
		err = p.proxy(ctx, name, args)
	} else {
		root := p.rootCommand()
		root.SetArgs(args)
		root.SetOut(p.stdout)
		root.SetErr(p.stderr)
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(p.stderr, "%s: %v\n", filepath.Base(name), err)
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 1
}

func (p program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "mecha",
		Short:         "A transparent L4/L7 data plane that speaks Envoy's configuration",
		Version:       mechaVersion,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("mecha {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		p.proxyCommand(),
		p.checkCommand(),
		p.versionCommand(),
		captureCommand(),
		demoCommand(),
		runCommand(),
		wasmCommand(),
		whyCommand(),
	)
	return root
}

func (p program) proxyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "proxy -c FILE [FLAG...]",
		Short: "Run the proxy (Envoy's flags; mecha proxy --help lists them)",
		// The flags follow Envoy's rules, which cobra's parser doesn't know.
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.proxy(cmd.Context(), "mecha proxy", args)
		},
	}
}

func (p program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			printVersion(p.stdout)
			return nil
		},
	}
}

// proxy is Envoy's command line.
func (p program) proxy(ctx context.Context, name string, args []string) error {
	o, err := parseEnvoyFlags(name, args)
	switch {
	case errors.Is(err, errHelp):
		printEnvoyHelp(p.stdout, name)
		return nil
	case errors.Is(err, errVersion):
		printEnvoyVersion(p.stdout, name)
		return nil
	case errors.Is(err, errHotRestartVersion):
		fmt.Fprintln(p.stderr, "disabled")
		return nil
	case err != nil:
		return fmt.Errorf("%w (--help lists the flags)", err)
	case o.Mode == ModeValidate:
		return p.validateMode(o)
	case p.serve == nil:
		return errors.New("this program was built without the proxy engine; only --mode validate works")
	}
	return p.serve(ctx, o)
}
