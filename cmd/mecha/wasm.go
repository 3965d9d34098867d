package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/cmd/mecha/wasmkit"
)

// wasmCommand is "mecha wasm": what authors of Proxy-Wasm filters need.
func wasmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wasm",
		Short: "Write, build, test and run filters in WebAssembly",
		Long: "Wasm is for authors of Proxy-Wasm filters. A filter is a folder: its source, in\n" +
			"Rust, Go, AssemblyScript or C, and dialogues, which say what clients and upstreams\n" +
			"see. It is built with the tools of its language, which have to be installed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(wasmNewCommand(), wasmBuildCommand(), wasmTestCommand(), wasmRunCommand())
	return cmd
}

func wasmNewCommand() *cobra.Command {
	var language string
	cmd := &cobra.Command{
		Use:   "new --lang LANGUAGE DIR",
		Short: "Make the folder of a new filter",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wasmkit.New(language, args[0]); err != nil {
				return fmt.Errorf("wasm new: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is a filter. Next: mecha wasm test %s\n", args[0], args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&language, "lang", "", "one of "+strings.Join(wasmkit.Languages(), ", "))
	_ = cmd.MarkFlagRequired("lang") // the flag is there
	return cmd
}

// folder is the argument of commands about a filter: the folder that they run in, unless
// they are told another one.
func folder(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return "."
}

func wasmBuildCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "build [DIR]",
		Short: "Build a filter with the tools of its language",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			module, err := wasmkit.Build(cmd.Context(), folder(args), out, cmd.ErrOrStderr())
			if err != nil {
				return fmt.Errorf("wasm build: %w", err)
			}
			info, err := os.Stat(module)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d kB\n", module, (info.Size()+999)/1000)
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "the module to make (DIR/build/NAME.wasm)")
	return cmd
}

func wasmTestCommand() *cobra.Command {
	var envoy, only, module string
	var rewrite bool
	cmd := &cobra.Command{
		Use:   "test [DIR]",
		Short: "Build a filter and play its dialogues",
		Long: "Test builds a filter and plays DIR/dialogues/*.txt against it: what clients and\n" +
			"upstreams send, and what they get. The filter is in the chain of each case; what a\n" +
			"case says under \"filter\" is merged over its configuration.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := folder(args)
			if module == "" {
				var err error
				if module, err = wasmkit.Build(cmd.Context(), dir, "", cmd.ErrOrStderr()); err != nil {
					return fmt.Errorf("wasm test: %w", err)
				}
			}
			err := wasmkit.Play(cmd.OutOrStdout(), dir, module, envoy, only, rewrite)
			if errors.Is(err, wasmkit.ErrFailed) {
				return errReported
			}
			if err != nil {
				return fmt.Errorf("wasm test: %w", err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&envoy, "envoy", os.Getenv("MECHA_ENVOY"), "an Envoy to play the dialogues on as well")
	f.StringVar(&only, "case", "", "play only the dialogues whose names contain this")
	f.StringVar(&module, "module", "", "a module that is there already: nothing is built")
	f.BoolVar(&rewrite, "rewrite", false, "write what the filter has done into the dialogues")
	return cmd
}

func wasmRunCommand() *cobra.Command {
	l := wasmkit.Live{Proxy: []string{"/proc/self/exe", "proxy", "--drain-time-s", "1", "--log-format", "%v"}}
	cmd := &cobra.Command{
		Use:   "run [DIR]",
		Short: "Serve traffic through a filter, and load it again whenever it is saved",
		Long: "Run builds a filter and starts a proxy with it in front of a server that answers with\n" +
			"what it got, or of --upstream. Whenever a file of the filter is saved it is built and\n" +
			"loaded again, while requests go on.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.Dir, l.Out, l.Log = folder(args), cmd.OutOrStdout(), cmd.ErrOrStderr()
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			if err := l.Run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("wasm run: %w", err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&l.Listen, "listen", "127.0.0.1:8080", "HOST:PORT to serve on")
	f.StringVar(&l.Admin, "admin", "127.0.0.1:9901", "HOST:PORT of the admin interface")
	f.StringVar(&l.Upstream, "upstream", "", "HOST:PORT of a server of HTTP that requests go to")
	f.StringVar(&l.Configuration, "configuration", "", "of the filter")
	return cmd
}
