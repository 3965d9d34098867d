package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mecha-mesh/mecha/xds/control"
)

func newCheck() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "check --dir DIR",
		Short: "Say what is wrong with a folder of Envoy resources",
		Long: `check reads a folder as serve does and prints what is wrong, with file, line and
path, and what looks wrong: a route to a cluster that isn't there, endpoints that
nothing uses. It exits with 1 if a file is broken.

` + folderHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := control.NewFolder(dir).Load()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			for _, p := range state.Problems {
				fmt.Fprintln(out, "error:  ", p)
			}
			for _, w := range state.Warnings {
				fmt.Fprintln(out, "warning:", w)
			}
			fmt.Fprintf(out, "%d files, %d resources for every node, %d errors, %d warnings\n",
				state.Files, len(state.Sets[""]), len(state.Problems), len(state.Warnings))
			if len(state.Problems) > 0 {
				return errors.New("the folder has mistakes")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder of resource files (required)")
	if err := cmd.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}
