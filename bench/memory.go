package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

const (
	idleConns  = 5000
	idleOthers = 2000            // of HTTP/2, and over TLS
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
	PerH2KB   float64 `json:"per_http2_connection_kb"`
	PerTLSKB  float64 `json:"per_tls_connection_kb"`
}

// idleRow is one request on each of many connections, which stay.
func (b *bench) idleRow(config string) *row {
	r := &row{config: config, exchange: httpGet("/1k"), conns: idleConns, load: once}
	switch config {
	case "h2":
		r.mux, r.streams, r.conns = h2Get("/1k"), 1, idleOthers
	case "tls":
		r.tls, r.certs, r.conns = tlsKeep, b.certs, idleOthers
	}
	return r
}

// memory looks at every proxy in turn: resident memory with a minimal
// configuration, then what each connection adds that made one request and stays.
func (b *bench) memory(ctx context.Context) ([]memoryResult, error) {
	var out []memoryResult
	for _, p := range append([]peer{b.subject}, b.peers...) {
		m, err := b.memoryOf(ctx, p, "http")
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: memory of %s: %v\n", p.name, err)
			continue
		}
		for config, to := range map[string]*float64{"h2": &m.PerH2KB, "tls": &m.PerTLSKB} {
			other, err := b.memoryOf(ctx, p, config)
			if err != nil {
				fmt.Fprintf(os.Stderr, "bench: memory of %s with %s: %v\n", p.name, config, err)
			}
			*to = other.PerConnKB // 0 says that it was not measured
		}
		fmt.Fprintf(os.Stderr, "%-11s %s: %.1f MB at rest, %.1f KB a connection, of HTTP/2 %.1f, over TLS %.1f\n",
			memoryRow, p.name, m.RestMB, m.PerConnKB, m.PerH2KB, m.PerTLSKB)
		out = append(out, m)
	}
	return out, nil
}

func (b *bench) memoryOf(ctx context.Context, p peer, config string) (memoryResult, error) {
	r := b.idleRow(config)
	m := memoryResult{Name: p.name, Conns: r.conns}
	run, err := b.launch(ctx, p, config, 1)
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
	g, err := newGenerator(r, []*target{{name: p.name, port: run.setup.Listen}})
	if err != nil {
		return m, err
	}
	defer g.close()
	g.start()
	if err := allAnswered(ctx, g, r.conns); err != nil {
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
	m.PerConnKB = float64(loaded-rest) / float64(r.conns) / (1 << 10)
	return m, err
}

// allAnswered waits until every connection has made its request.
func allAnswered(ctx context.Context, g *generator, conns int) error {
	for range 300 {
		if g.targets[0].count.Load() == int64(conns) {
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond, g.done); err != nil {
			if ctx.Err() == nil && g.err != nil {
				return g.err
			}
			return err
		}
	}
	return fmt.Errorf("only %d of %d connections were answered in 30 s", g.targets[0].count.Load(), conns)
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
