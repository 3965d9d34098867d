// Command bench measures mecha beside other proxies: both run at the same time
// on the same CPU under equal load, and the figure is CPU time per request. See
// README.md for how to read it.
//
// A workload is one row_*.go file with one entry in rows. Nothing here is part of
// the proxy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options is the command line.
type options struct {
	subject  string
	bin      string
	peers    []string
	rows     []string
	measure  time.Duration // one sample
	repeat   int
	proxyCPU int
	loadCPU  int
	profile  string
	out      string
	quick    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "cmp" {
		return compareFiles(os.Stdout, args[1:])
	}
	if len(args) > 0 && args[0] == "scale" {
		return scale(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == "filters" {
		return filters(ctx, args[1:])
	}
	o, err := parseOptions(args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer b.close()
	report, err := b.run(ctx)
	if report != nil && len(report.Rows) > 0 {
		report.print(os.Stdout)
		file, werr := report.write(o.out)
		if werr != nil {
			return werr
		}
		fmt.Println("written to", file)
	}
	return err
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	peers := f.String("peer", "envoy,haproxy,nginx", "who to compare with, by comma")
	rows := f.String("rows", "all", "which rows, by comma: "+strings.Join(rowNames(), " "))
	seconds := f.Float64("seconds", 3, "length of one sample")
	f.StringVar(&o.subject, "subject", "mecha", "who is measured; another peer's name checks the method itself")
	f.StringVar(&o.bin, "bin", "bin/mecha", "the mecha binary")
	f.IntVar(&o.repeat, "repeat", 3, "samples of each pair")
	f.IntVar(&o.proxyCPU, "proxy-cpu", -1, "CPU of both proxies (-1: the last)")
	f.IntVar(&o.loadCPU, "load-cpu", 0, "CPU of load generator and back end")
	f.StringVar(&o.profile, "profile", "", "pprof or perf: take a CPU profile of the subject in each row")
	f.StringVar(&o.out, "out", "bench/out", "folder of result files")
	f.BoolVar(&o.quick, "quick", false, "short samples, without nginx: under three minutes")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q; the only commands are: filters, scale, cmp BASE [NEW]", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	if o.quick {
		if !given["seconds"] {
			*seconds = 1.5
		}
		if !given["repeat"] {
			o.repeat = 2
		}
		if !given["peer"] {
			*peers = "envoy,haproxy"
		}
	}
	o.peers = strings.Split(*peers, ",")
	o.rows = strings.Split(*rows, ",")
	o.measure = time.Duration(*seconds * float64(time.Second))
	switch o.profile {
	case "", "pprof", "perf":
	default:
		return o, fmt.Errorf("-profile %q: want pprof or perf", o.profile)
	}
	if o.repeat < 1 || o.measure < 100*time.Millisecond {
		return o, errors.New("want -repeat of at least 1 and -seconds of at least 0.1")
	}
	return o, nil
}
