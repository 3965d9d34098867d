package demo

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"
)

// openLoopback starts the shop without pods: every program is a child of this
// process, sidecars listen on loopback ports, and the frontend is told to
// use them. ended is told when a program ends by itself.
func (o Options) openLoopback(ctx context.Context, dir string, ended func(error)) (_ *shop, err error) {
	p, err := loopbackPlan()
	if err != nil {
		return nil, err
	}
	p.run = filepath.Join(dir, "identity")
	f, err := newFolder(filepath.Join(dir, "config"), p)
	if err != nil {
		return nil, err
	}
	logs := filepath.Join(dir, "logs")
	children := newProcesses(func(name string, err error) {
		ended(fmt.Errorf("%s has ended by itself (%v); it said:\n%s", name, err, lastWords(logs, name)))
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 64, Proxy: nil}
	s := &shop{
		plan: p, folder: f, logs: logs,
		client:  &http.Client{Transport: transport},
		publish: func(a netip.AddrPort) (string, error) { return a.String(), nil },
		closing: func() {
			transport.CloseIdleConnections()
			children.stop()
		},
	}
	defer func() {
		if err != nil {
			s.closing()
		}
	}()
	start := func(name string, command, env []string) error {
		log, err := openLog(logs, name)
		if err != nil {
			return err
		}
		defer log.Close() //nolint:errcheck // the program has its copy
		return children.start(name, command, env, log)
	}
	for _, m := range members() {
		switch {
		case m.name == control:
			err = start(control, o.controlCommand(f.dir, p), nil)
		case m.kind == "bank":
			continue // what it is there for needs capture
		default:
			err = start(m.name, []string{o.Shop, m.kind}, p.settings(m))
		}
		if err != nil {
			return nil, err
		}
		if !m.sidecar {
			continue
		}
		command, err := o.sidecarCommand(p, m.name)
		if err != nil {
			return nil, err
		}
		if err := start(sidecarLog(m.name), command, nil); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("not ready after %v", startTime))
	defer cancel()
	return s, s.ready(ctx)
}

// startTime is how long the shop may take to open.
const startTime = 25 * time.Second
