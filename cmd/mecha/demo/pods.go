package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/mecha-mesh/mecha/cmd/mecha/pod"
	"github.com/mecha-mesh/mecha/iptables"
)

// network is the node's network. No other network is reachable from it.
var network = netip.MustParsePrefix("10.201.0.0/16")

// openPods starts the shop in a node of its own, each program in a pod. ended
// is told when one ends by itself. The error is a *pod.Unsupported where the
// kernel does not allow it.
func (o Options) openPods(ctx context.Context, dir string, ended func(error)) (_ *shop, err error) {
	p := podPlan(network)
	p.run = filepath.Join(dir, "identity")
	f, err := newFolder(filepath.Join(dir, "config"), p)
	if err != nil {
		return nil, err
	}
	node, err := pod.NewNode(ctx, pod.NodeConfig{Self: o.Stage, IPv4: network, Isolated: true})
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return node.Dial(ctx, addr)
		},
	}
	var closed sync.Once
	closing := make(chan struct{})
	s := &shop{
		plan: p, folder: f, logs: filepath.Join(dir, "logs"), join: dir,
		serve:  func(ctx context.Context) error { return node.Serve(ctx, dir) },
		client: &http.Client{Transport: transport},
		closing: func() {
			closed.Do(func() {
				close(closing)
				transport.CloseIdleConnections()
				_ = node.Close() // always nil
			})
		},
		publish: func(a netip.AddrPort) (string, error) {
			l, err := node.Publish("127.0.0.1:0", a.String())
			if err != nil {
				return "", err
			}
			return l.Addr().String(), nil
		},
	}
	defer func() {
		if err != nil {
			s.closing()
		}
	}()
	for name, addr := range p.names {
		if err := node.Name(name, addr); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("not ready after %v", startTime))
	defer cancel()
	watch := func(name string, running *pod.Pod) {
		select {
		case <-closing:
			return
		case <-running.Done():
		}
		_, err := running.Wait()
		select {
		case <-closing:
		default:
			ended(fmt.Errorf("the pod of %s has ended by itself (%v); it said:\n%s", name, err, lastWords(s.logs, name)))
		}
	}
	return s, o.startPods(ctx, node, s, watch)
}

// startPods starts the control plane, then all others at once, and waits until
// they are ready.
func (o Options) startPods(ctx context.Context, node *pod.Node, s *shop, watch func(string, *pod.Pod)) error {
	start := func(m member) error {
		running, err := o.startPod(ctx, node, s, m)
		if err != nil {
			var unsupported *pod.Unsupported
			if errors.As(err, &unsupported) {
				return err
			}
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("start the pod of %s: %w\nits sidecar says:\n%s", m.name, err, lastWords(s.logs, sidecarLog(m.name)))
		}
		go watch(m.name, running)
		return nil
	}
	all := members()
	if err := start(all[0]); err != nil {
		return err
	}
	if err := await(ctx, func(ctx context.Context) error {
		c, err := node.Dial(ctx, s.plan.at[control].String())
		if err == nil {
			c.Close() //nolint:errcheck // only a question
		}
		return err
	}); err != nil {
		return fmt.Errorf("the control plane does not answer: %w\nit says:\n%s", err, s.lastWords(control))
	}
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, m := range all[1:] {
		wg.Go(func() { errs[i] = start(m) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the first; others may only follow from it
		}
	}
	return s.ready(ctx)
}

// startPod starts one member in a pod, behind a sidecar if it has one.
func (o Options) startPod(ctx context.Context, node *pod.Node, s *shop, m member) (*pod.Pod, error) {
	log, err := openLog(s.logs, m.name)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the program has its copy
	c := pod.Config{
		Name: m.name, IP: s.plan.at[m.name].Addr(), Command: []string{o.Shop, m.kind}, Env: s.plan.settings(m), Dir: "/",
		Stdout: log, Stderr: log, ReadyTimeout: startTime,
	}
	if m.name == control {
		c.Command = o.controlCommand(s.folder.dir, s.plan)
	}
	if m.sidecar {
		var capture *os.File
		if capture, err = openLog(s.logs, sidecarLog(m.name)); err != nil {
			return nil, err
		}
		defer capture.Close() //nolint:errcheck // the sidecar has its copy
		rules := captureRules(m)
		c.Capture, c.SidecarLog = &rules, capture
		if c.Sidecar, err = o.sidecarCommand(s.plan, m.name); err != nil {
			return nil, err
		}
	}
	return node.Start(ctx, c)
}

// captureRules is what capture does in a member's pod. The sidecar is known by
// the mark of its sockets, which needs no second user.
func captureRules(m member) iptables.Config {
	c := iptables.DefaultConfig()
	c.ProxyUIDs, c.ProxyGIDs, c.ProxyMarks = nil, nil, []uint32{iptables.DefaultProxyMark}
	c.ExcludeInboundPorts = []iptables.PortRange{{First: adminPort, Last: adminPort}}
	if m.name == "frontend" {
		c.ExcludeOutboundPorts = []iptables.PortRange{{First: bankPort, Last: bankPort}}
	}
	return c
}
