package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// scaleResult is one proxy with one number of clusters over one way.
type scaleResult struct {
	peer, way string
	clusters  int
	ready     time.Duration // from the start of the process to 200 from /ready
	memory    int64         // resident, once everything has been quiet for a while
	change    time.Duration // CPU time for one endpoint that changes
	err       error
}

// settleScale is how long a proxy is left alone before its memory is read: a trim comes
// within that. Another one follows for what came after it, at most settleTrim later: it
// belongs to the loading, not to the changes.
const (
	settleScale = 3 * time.Second
	settleTrim  = 11 * time.Second
)

// scale measures how a proxy bears many clusters that it does not use, each with one
// route: memory, time until it is ready, CPU time of one change.
func scale(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	sizes := f.String("clusters", "100,1000,10000", "how many, by comma")
	bin := f.String("bin", "bin/mecha", "the mecha binary")
	peer := f.Bool("envoy", true, "measure Envoy, too")
	changes := f.Int("changes", 5, "endpoints that change, one after the other")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	mecha, err := executable(*bin, "make build")
	if err != nil {
		return err
	}
	argvs := []scalePeer{{"mecha", []string{mecha, "proxy"}}}
	if *peer {
		envoy, err := findEnvoy()
		if err != nil {
			return err
		}
		argvs = append(argvs, scalePeer{"envoy", []string{envoy, "--base-id", strconv.Itoa(os.Getpid() % 30000), "--concurrency", "1"}})
	}
	var results []scaleResult
	for _, text := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-clusters: %q is not a number of clusters", text)
		}
		for _, way := range []string{"file", "delta"} {
			for _, p := range argvs {
				r := measureScale(ctx, p, way, n, *changes)
				if r.err != nil {
					return fmt.Errorf("%s, %s, %d clusters: %w", p.name, way, n, r.err)
				}
				results = append(results, r)
			}
		}
	}
	printScale(os.Stdout, results)
	return nil
}

type scalePeer struct {
	name string
	argv []string
}

// scaleSource is where the clusters come from, and can change one endpoint.
type scaleSource interface {
	bootstrap(admin int) string
	change(i int) error
	close()
}

func measureScale(ctx context.Context, p scalePeer, way string, n, changes int) (r scaleResult) {
	r = scaleResult{peer: p.name, way: way, clusters: n}
	dir, err := os.MkdirTemp("", "mecha-scale-")
	if err != nil {
		r.err = err
		return r
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary folder harms nobody
	ports, err := freePorts(2)
	if err != nil {
		r.err = err
		return r
	}
	var src scaleSource
	if way == "file" {
		src, err = newScaleFiles(dir, n, ports[1])
	} else {
		src, err = newScalePlane(n, ports[1])
	}
	if err != nil {
		r.err = err
		return r
	}
	defer src.close()
	config := filepath.Join(dir, "bootstrap.yaml")
	if r.err = os.WriteFile(config, []byte(src.bootstrap(ports[0])), 0o644); r.err != nil {
		return r
	}
	l := newLauncher()
	start := time.Now()
	proc, err := l.start(p.name, dir, append(p.argv, "-c", config, "-l", "error"), nil, nil)
	if err != nil {
		r.err = err
		return r
	}
	defer proc.stop()
	if r.err = awaitReady(ctx, ports[0]); r.err != nil {
		return r
	}
	r.ready = time.Since(start)
	if r.err = pause(ctx, settleScale); r.err != nil {
		return r
	}
	if r.memory, r.err = rss(proc.pids()); r.err != nil {
		return r
	}
	if r.err = pause(ctx, settleTrim); r.err != nil {
		return r
	}
	before, err := cpuTime(proc.pids())
	for i := range changes {
		if err = errors.Join(err, src.change(i), pause(ctx, time.Second)); err != nil {
			break
		}
	}
	after, err2 := cpuTime(proc.pids())
	r.err = errors.Join(err, err2)
	r.change = (after - before) / time.Duration(max(changes, 1))
	return r
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() //nolint:errcheck // only its number is wanted
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// awaitReady asks /ready, on connections of its own so that nothing is left behind.
func awaitReady(ctx context.Context, admin int) error {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		if ok, err := askReady(ctx, admin); ok || err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("not ready within two minutes")
}

func askReady(ctx context.Context, admin int) (bool, error) {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(admin), time.Second)
	if err != nil {
		return false, ctx.Err()
	}
	defer c.Close() //nolint:errcheck // read to its end, or given up
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(c, "GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		return false, ctx.Err()
	}
	head := make([]byte, 15)
	_, _ = io.ReadFull(c, head) // what is short is no 200
	return strings.HasPrefix(string(head), "HTTP/1.1 200"), ctx.Err()
}

func printScale(w io.Writer, results []scaleResult) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "clusters\tover\tproxy\tready\tRSS\tCPU of a change\t")
	for _, r := range results {
		fmt.Fprintf(t, "%d\t%s\t%s\t%.2f s\t%.0f MB\t%.1f ms\t\n", r.clusters, r.way, r.peer, r.ready.Seconds(), float64(r.memory)/(1<<20), float64(r.change.Microseconds())/1000)
	}
	_ = t.Flush() // to a terminal
}
