package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// filterCost is a filter whose cost is measured.
type filterCost struct {
	name    string
	filter  string  // one line of YAML, "" for none
	manager string  // a field of the connection manager, "" for none
	target  float64 // of what Envoy adds; 0: there is none
}

const extension = `"@type": type.googleapis.com/envoy.extensions.`

func filterCosts() []filterCost {
	return []filterCost{
		{name: "nothing"}, // the same configuration twice: what the other rows may be wrong by
		{name: "rbac", target: 0.1, filter: `{name: rbac, typed_config: {` + extension + `filters.http.rbac.v3.RBAC, rules: {policies: {` +
			`a: {permissions: [{url_path: {path: {prefix: /admin}}}], principals: [{header: {name: x-user, string_match: {exact: root}}}]}, ` +
			`b: {permissions: [{header: {name: ":method", string_match: {exact: POST}}}], principals: [{any: true}]}, ` +
			`c: {permissions: [{destination_port: 1}], principals: [{remote_ip: {address_prefix: 10.0.0.0, prefix_len: 8}}]}, ` +
			`d: {permissions: [{header: {name: x-tier, present_match: true}}], principals: [{any: true}]}, ` +
			`e: {permissions: [{any: true}], principals: [{not_id: {header: {name: x-user, present_match: true}}}]}}}}}`},
		{name: "header_mutation", target: 0.1, filter: `{name: mutation, typed_config: {` + extension + `filters.http.header_mutation.v3.HeaderMutation, mutations: {` +
			`request_mutations: [{append: {header: {key: x-a, value: b}}}, {remove: x-c}], response_mutations: [{append: {header: {key: x-d, value: e}}}]}}}`},
		{name: "local_ratelimit", target: 0.1, filter: `{name: limit, typed_config: {` + extension + `filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: x, ` +
			`token_bucket: {max_tokens: 1000000, tokens_per_fill: 1000000, fill_interval: 1s}, filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}}}`},
		{name: "access_log", target: 0.5, manager: `access_log: [{name: file, typed_config: {` + extension + `access_loggers.file.v3.FileAccessLog, path: access.log}}]`},
	}
}

// added is what a filter adds to a request, in microseconds of CPU.
type added struct {
	filterCost
	subject, peer, ratio spread
}

// filters measures what filters add to a request, beside Envoy.
func filters(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench filters", flag.ContinueOnError)
	o := options{subject: "mecha", peers: []string{"envoy"}, proxyCPU: -1}
	only := f.String("only", "", "which filters, by comma; all if empty")
	seconds := f.Float64("seconds", 5, "length of one sample")
	f.StringVar(&o.bin, "bin", "bin/mecha", "the mecha binary")
	f.IntVar(&o.repeat, "repeat", 5, "samples of each filter")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.repeat < 1 || *seconds < 0.1 {
		return errors.New("want -repeat of at least 1 and -seconds of at least 0.1")
	}
	o.measure = time.Duration(*seconds * float64(time.Second))
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer b.close()
	var results []added
	for _, c := range filterCosts() {
		if *only != "" && !strings.Contains(","+*only+",", ","+c.name+",") {
			continue
		}
		a, err := b.filterCost(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		results = append(results, a)
	}
	printFilters(os.Stdout, results)
	return nil
}

// filterCost runs both proxies with and without the filter at the same time.
func (b *bench) filterCost(ctx context.Context, c filterCost) (added, error) {
	out := added{filterCost: c}
	r := h1Small()
	var four []*running // subject without and with, peer without and with
	var targets []*target
	for _, p := range []peer{b.subject, b.peers[0]} {
		for _, with := range []bool{false, true} {
			run, err := b.launch(ctx, p, r.config, r.workers, func(s *setup) {
				if with {
					s.Filter, s.Manager = c.filter, c.manager
				}
			})
			if err != nil {
				return out, err
			}
			defer run.stop()
			four = append(four, run)
			targets = append(targets, &target{name: p.name, port: run.setup.Listen})
		}
	}
	g, err := newGenerator(&r, targets)
	if err != nil {
		return out, err
	}
	g.start()
	err = b.addedBy(ctx, &r, g, four, &out)
	return out, errors.Join(err, g.close())
}

// addedBy takes the samples while the load runs.
func (b *bench) addedBy(ctx context.Context, r *row, g *generator, four []*running, out *added) error {
	if err := warm(ctx, r, g); err != nil {
		return err
	}
	var subject, peer, ratios []float64
	for range b.o.repeat {
		before, err := readings(four, g)
		if err != nil {
			return err
		}
		if err := wait(ctx, b.o.measure, g.done); err != nil {
			return err
		}
		after, err := readings(four, g)
		if err != nil {
			return err
		}
		var cpu [4]float64
		for i := range cpu {
			n := after[i].count - before[i].count
			if n == 0 {
				return fmt.Errorf("%s answered nothing in %v", g.targets[i].name, b.o.measure)
			}
			cpu[i] = float64(after[i].cpu-before[i].cpu) / float64(n) / float64(time.Microsecond)
		}
		subject, peer = append(subject, cpu[1]-cpu[0]), append(peer, cpu[3]-cpu[2])
		ratios = append(ratios, (cpu[1]-cpu[0])/(cpu[3]-cpu[2]))
	}
	out.subject, out.peer, out.ratio = spreadOf(subject), spreadOf(peer), spreadOf(ratios)
	return nil
}

func printFilters(w io.Writer, results []added) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "filter\tEnvoy adds (us)\tmecha adds (us)\tof what Envoy adds\ttarget\tverdict")
	show := func(s spread) string { return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Low, s.High) }
	for _, a := range results {
		if a.target == 0 {
			fmt.Fprintf(t, "%s\t%s\t%s\t\t\t\n", a.name, show(a.peer), show(a.subject))
			continue
		}
		verdict := "FAIL"
		if a.ratio.Median <= a.target {
			verdict = "pass"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t<= %.2f\t%s\n", a.name, show(a.peer), show(a.subject), show(a.ratio), a.target, verdict)
	}
	t.Flush()
}
