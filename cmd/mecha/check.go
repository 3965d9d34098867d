package main

import (
	"errors"
	"fmt"
	"io"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/spf13/cobra"

	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// loadBootstrap reads, merges and checks the configuration o names. Nothing is
// started, opened or logged.
func loadBootstrap(o Options) (*bootstrapv3.Bootstrap, bootstrap.Report, error) {
	return bootstrap.Load(bootstrap.LoadOptions{
		Path:               o.ConfigPath,
		YAML:               o.ConfigYAML,
		AllowUnknownFields: o.AllowUnknownStatic,
		IgnoreDeprecated:   o.SkipDeprecatedLogs,
		Node:               o.ServiceNode,
		Cluster:            o.ServiceCluster,
		Zone:               o.ServiceZone,
	})
}

// verifyBootstrap is everything that --mode validate and mecha check look at.
func (p program) verifyBootstrap(o Options) (*bootstrapv3.Bootstrap, bootstrap.Report, error) {
	b, report, err := loadBootstrap(o)
	if err != nil {
		return nil, report, err
	}
	if err := checkLogConfig(b, o); err != nil {
		return nil, report, err
	}
	if p.verify != nil {
		if err := p.verify(b, o); err != nil {
			return nil, report, err
		}
	}
	return b, report, nil
}

// validateMode is --mode validate: Envoy's line on success.
func (p program) validateMode(o Options) error {
	if _, _, err := p.verifyBootstrap(o); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "configuration '%s' OK\n", o.ConfigPath)
	return nil
}

// errReported ends the process after the command has printed the reasons.
var errReported = errors.New("already reported")

// checkCommand is mecha check: the same verdict as --mode validate, with every
// problem and warning, for people.
func (p program) checkCommand() *cobra.Command {
	o := defaultOptions("mecha")
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a bootstrap file and say everything that is wrong with it",
		Long: "Check reads FILE as mecha proxy would, and lists all problems and warnings\n" +
			"with file, line and path. It starts nothing. Exit code 1 means that the\n" +
			"proxy would refuse the file.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.ConfigPath = args[0]
			}
			return p.check(o)
		},
	}
	cmd.Flags().StringVar(&o.ConfigYAML, "config-yaml", "", "text merged over FILE")
	cmd.Flags().BoolVar(&o.AllowUnknownStatic, "allow-unknown-static-fields", false, "warn about unknown fields instead of refusing them")
	cmd.Flags().BoolVar(&o.SkipDeprecatedLogs, "skip-deprecated-logs", false, "do not warn about deprecated fields")
	return cmd
}

func (p program) check(o Options) error {
	b, report, err := p.verifyBootstrap(o)
	for _, w := range report.Warnings {
		fmt.Fprintf(p.stdout, "warning: %s\n", w)
	}
	if err != nil {
		return p.printProblems(err)
	}
	name := o.ConfigPath
	if name == "" {
		name = bootstrap.InlineName
	}
	fmt.Fprintf(p.stdout, "%s: OK%s\n", name, count(len(report.Warnings), ", %d warning"))
	describe(p.stdout, b)
	return nil
}

// printProblems lists every finding of a refused file.
func (p program) printProblems(err error) error {
	var refused *bootstrap.Error
	if !errors.As(err, &refused) {
		return err
	}
	for _, f := range refused.Findings {
		fmt.Fprintf(p.stderr, "error: %s\n", f)
	}
	fmt.Fprintf(p.stderr, "refused:%s\n", count(len(refused.Findings), " %d problem"))
	return errReported
}

// count formats n with a plural s; nothing for 0.
func count(n int, format string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(format, n)
	}
	return fmt.Sprintf(format+"s", n)
}

// describe says in a few lines what the proxy would run.
func describe(w io.Writer, b *bootstrapv3.Bootstrap) {
	if n := b.GetNode(); n != nil {
		fmt.Fprintf(w, "  node      %s (cluster %s)\n", orNone(n.GetId()), orNone(n.GetCluster()))
	}
	s := b.GetStaticResources()
	fmt.Fprintf(w, "  static    %d listeners, %d clusters, %d secrets\n", len(s.GetListeners()), len(s.GetClusters()), len(s.GetSecrets()))
	d := b.GetDynamicResources()
	if ads := d.GetAdsConfig(); ads != nil {
		name := "by URI"
		if g := ads.GetGrpcServices(); len(g) > 0 && g[0].GetEnvoyGrpc() != nil {
			name = "through cluster " + g[0].GetEnvoyGrpc().GetClusterName()
		}
		fmt.Fprintf(w, "  dynamic   ADS (%s) %s\n", ads.GetApiType(), name)
	} else if d.GetLdsConfig() != nil || d.GetCdsConfig() != nil {
		fmt.Fprintln(w, "  dynamic   listeners or clusters, without ADS")
	}
	if a := b.GetAdmin().GetAddress().GetSocketAddress(); a != nil {
		fmt.Fprintf(w, "  admin     %s port %d\n", a.GetAddress(), a.GetPortValue())
	}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
