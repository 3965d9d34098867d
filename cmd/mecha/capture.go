package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/iptables"
	"github.com/spf13/cobra"
)

// Exit codes of mecha capture, beside 0 and 1.
const (
	exitUsage     = 2   // a flag or the configuration is wrong
	exitDiffers   = 3   // verify: the kernel does not hold the plan
	exitPrivilege = 4   // not allowed to
	exitSelfTest  = 126 // rules applied, self-test failed; Istio's code for "repair this pod"
)

// codedError is an error with its own exit code.
type codedError struct {
	error
	code int
}

func (e codedError) ExitCode() int { return e.code }
func (e codedError) Unwrap() error { return e.error }

// usageError is a wrong flag.
type usageError struct{ error }

func (e usageError) ExitCode() int { return exitUsage }
func (e usageError) Unwrap() error { return e.error }

// captureCommand is "mecha capture": rules in the network namespace that the
// command runs in, normally a pod's.
func captureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Send a pod's TCP traffic through its sidecar, and undo that",
		Long: `Program, check and remove the rules that send the TCP traffic of the current
network namespace through a sidecar. Flags have istio-iptables' letters, long
names and environment variables, too.

Exit codes: 0 done, 1 failed, 2 wrong flags, 3 verify found differences,
4 missing privilege, 126 the self-test failed.`,
	}
	cmd.AddCommand(capturePlan(), captureApply(), captureVerify(), captureUndo())
	return cmd
}

// captureVerb makes a subcommand with the flags of the rules. configure may add more.
func captureVerb(use, short string, run func(cmd *cobra.Command, c iptables.Config, rs *iptables.Ruleset) error, configure func(*cobra.Command)) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	settings := addCaptureFlags(cmd)
	if configure != nil {
		configure(cmd)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c := iptables.DefaultConfig()
		if err := settings.apply(cmd, &c, true); err != nil {
			return err
		}
		rs, err := iptables.Plan(c)
		if err != nil {
			return usageError{err}
		}
		return explainCapture(run(cmd, c, rs))
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return cmd
}

// explainCapture says what to do about missing privilege.
func explainCapture(err error) error {
	if errors.Is(err, iptables.ErrPrivilege) {
		return codedError{fmt.Errorf("%w\nRun it as root in the pod's network namespace, or give the (init) container the NET_ADMIN capability.\n"+
			"To try a program behind a sidecar without root, use: mecha run -- COMMAND", err), exitPrivilege}
	}
	return err
}

func capturePlan() *cobra.Command {
	var format string
	return captureVerb("plan", "Print the rules, change nothing (needs no privilege)",
		func(cmd *cobra.Command, _ iptables.Config, rs *iptables.Ruleset) error {
			out := cmd.OutOrStdout()
			show := map[string]func() string{
				"words":    rs.Words,
				"nft":      rs.NFT,
				"iptables": func() string { return rs.Restore(4, true) + rs.Restore(6, true) },
			}
			if format != "" {
				f, ok := show[format]
				if !ok {
					return usageError{fmt.Errorf("--format: %q: expected words, nft or iptables", format)}
				}
				_, err := fmt.Fprint(out, f())
				return err
			}
			_, err := fmt.Fprintf(out, "%s\nThe same for nft -f:\n\n%s", rs.Words(), rs.NFT())
			return err
		},
		func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&format, "format", "", "print only this: words, nft or iptables")
		})
}

// selfTestTimeout bounds the self-test as a whole; it takes milliseconds when
// the rules work.
const selfTestTimeout = 20 * time.Second

func captureApply() *cobra.Command {
	var backend string
	var noTest bool
	return captureVerb("apply", "Program the rules and prove them with real connections",
		func(cmd *cobra.Command, c iptables.Config, rs *iptables.Ruleset) error {
			with, ok := map[string]iptables.Backend{"auto": iptables.Auto, "nftables": iptables.NFTables, "iptables": iptables.IPTables}[backend]
			if !ok {
				return usageError{fmt.Errorf("--backend: %q: expected auto, nftables or iptables", backend)}
			}
			done, err := iptables.Apply(rs, with)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			what := "programmed"
			if !done.Changed {
				what = "already there"
			}
			fmt.Fprintf(out, "rules %s (%s)\n", what, done.Backend)
			if noTest {
				return nil
			}
			return captureSelfTest(cmd, c)
		},
		func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&backend, "backend", "auto", "how: auto, nftables (no other program is needed) or iptables")
			cmd.Flags().BoolVar(&noTest, "no-self-test", false, "do not open test connections")
		})
}

func captureSelfTest(cmd *cobra.Command, c iptables.Config) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), selfTestTimeout)
	defer cancel()
	checks, err := iptables.SelfTest(ctx, c)
	out := cmd.OutOrStdout()
	for _, k := range checks {
		if k.Skipped != "" {
			fmt.Fprintf(out, "self-test: skipped: %s: %s\n", k.Name, k.Skipped)
		} else {
			fmt.Fprintf(out, "self-test: ok: %s\n", k.Name)
		}
	}
	switch {
	case errors.Is(err, iptables.ErrBusy):
		fmt.Fprintf(out, "self-test: not possible: %v\n", err)
		return nil
	case errors.Is(err, iptables.ErrPrivilege):
		return err
	case err != nil:
		return codedError{err, exitSelfTest}
	}
	fmt.Fprintln(out, "ready")
	return nil
}

func captureVerify() *cobra.Command {
	return captureVerb("verify", "Compare the kernel's rules with the plan",
		func(cmd *cobra.Command, _ iptables.Config, rs *iptables.Ruleset) error {
			diff, err := iptables.Verify(rs)
			switch {
			case errors.Is(err, iptables.ErrMissing):
				return codedError{err, exitDiffers}
			case err != nil:
				return err
			case len(diff) > 0:
				return codedError{fmt.Errorf("the kernel's rules differ from the plan:\n  %s\nmecha capture apply, with the same flags, repairs them",
					strings.Join(diff, "\n  ")), exitDiffers}
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the kernel's rules are the planned ones")
			return nil
		}, nil)
}

func captureUndo() *cobra.Command {
	return captureVerb("undo", "Remove every rule, table and route of mecha",
		func(cmd *cobra.Command, c iptables.Config, _ *iptables.Ruleset) error {
			if err := iptables.Undo(iptables.Routing{Mark: c.TProxyMark, Table: c.RouteTable}); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "removed")
			return nil
		}, nil)
}
