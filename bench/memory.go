package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	idleConns  = 5000
	settleTime = 2 * time.Second // after start, and after the last request
	idleTime   = 5 * time.Second // over which CPU at rest is taken
)

// memoryResult is one proxy at rest and with idle connections.
type memoryResult struct {
	Name      string  `json:"name"`
	RestMB    float64 `json:"rest_mb"`
	PerConnKB float64 `json:"per_connection_kb"`
	Conns     int     `json:"connections"`
	RestCPU   float64 `json:"rest_cpu_percent"` // of one CPU, without connections
	IdleCPU   float64 `json:"idle_cpu_percent"` // with them
}

// memory looks at every proxy in turn: resident memory with a minimal
// configuration, then what each connection adds that made one request and stays.
func (b *bench) memory(ctx context.Context) ([]memoryResult, error) {
	var out []memoryResult
	for _, p := range append([]peer{b.subject}, b.peers...) {
		m, err := b.memoryOf(ctx, p)
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: memory of %s: %v\n", p.name, err)
			continue
		}
		fmt.Fprintf(os.Stderr, "%-11s %s: %.1f MB at rest, %.1f KB a connection\n", memoryRow, p.name, m.RestMB, m.PerConnKB)
		out = append(out, m)
	}
	return out, nil
}

func (b *bench) memoryOf(ctx context.Context, p peer) (memoryResult, error) {
	m := memoryResult{Name: p.name, Conns: idleConns}
	run, err := b.launch(ctx, p, "http", 1)
	if err != nil {
		return m, err
	}
	defer run.stop()
	if err := wait(ctx, settleTime, run.done); err != nil {
		return m, err
	}
	if m.RestCPU, err = cpuShare(ctx, run, idleTime/2); err != nil {
		return m, err
	}
	rest, err := rss(run.pids())
	if err != nil {
		return m, err
	}
	g, err := newGenerator(&row{exchange: httpGet("/1k"), conns: idleConns, load: once}, []*target{{name: p.name, port: run.setup.Listen}})
	if err != nil {
		return m, err
	}
	defer g.close()
	g.start()
	if err := allAnswered(ctx, g); err != nil {
		return m, err
	}
	if err := wait(ctx, settleTime, g.done); err != nil {
		return m, err
	}
	if m.IdleCPU, err = cpuShare(ctx, run, idleTime); err != nil {
		return m, err
	}
	loaded, err := rss(run.pids())
	m.RestMB = float64(rest) / (1 << 20)
	m.PerConnKB = float64(loaded-rest) / idleConns / (1 << 10)
	return m, err
}

// allAnswered waits until every connection has made its request.
func allAnswered(ctx context.Context, g *generator) error {
	for range 300 {
		if g.targets[0].count.Load() == idleConns {
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond, g.done); err != nil {
			if ctx.Err() == nil && g.err != nil {
				return g.err
			}
			return err
		}
	}
	return fmt.Errorf("only %d of %d connections were answered in 30 s", g.targets[0].count.Load(), idleConns)
}

// cpuShare is the CPU used over d, in percent of one.
func cpuShare(ctx context.Context, run *running, d time.Duration) (float64, error) {
	before, err := cpuTime(run.pids())
	if err != nil {
		return 0, err
	}
	if err := wait(ctx, d, run.done); err != nil {
		return 0, err
	}
	after, err := cpuTime(run.pids())
	return 100 * float64(after-before) / float64(d), err
}
