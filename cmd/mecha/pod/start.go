package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/iptables"
)

// Messages between a Pod and the pod's first process.
type (
	podSetup struct {
		Name, Dir               string
		Command, Env            []string
		Capture                 *iptables.Config
		SkipSelfTest            bool
		Sidecar, SidecarEnv     []string
		ReadyPorts              []uint16
		ReadyTimeout, DrainTime time.Duration
	}
	command struct {
		Signal int
	}
	event struct {
		Kind    string // "ready", "failed", "exit"
		Failure *failure
		Exit    Exit
	}
)

// Pod is a running pod, seen from the process that started it.
type Pod struct {
	name  string
	place place
	w     *wire
	done  chan struct{} // closed after exit and err are set
	exit  Exit
	err   error
}

// Start makes a pod and returns when its program has been started: rules
// programmed and tested, sidecar listening. ctx bounds that time only. Where
// the kernel does not allow a part of it, the error is an *Unsupported.
func (n *Node) Start(ctx context.Context, c Config) (*Pod, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("pod: %w", err)
	}
	defer null.Close() //nolint:errcheck // nothing was written to it
	for _, f := range []**os.File{&c.Stdin, &c.Stdout, &c.Stderr} {
		if *f == nil {
			*f = null
		}
	}
	if c.SidecarLog == nil {
		c.SidecarLog = c.Stderr
	}
	setup, err := n.setup(c)
	if err != nil {
		return nil, err
	}
	w, far, err := newWire()
	if err != nil {
		return nil, err
	}
	files := []*os.File{far, c.Stdin, c.Stdout, c.Stderr, c.SidecarLog}
	pod, number, err := n.enter(ctx, w, setup, c.IP, files)
	far.Close() //nolint:errcheck // the pod has its copy
	if err != nil {
		w.close()
		return nil, err
	}
	if c.Name == "" {
		return pod, nil
	}
	// Names lead to IPv4 only, as in a cluster with one IP version: a sidecar
	// accepts by either, so a client could not turn from a server that does not
	// speak IPv6 to the other address.
	rq := request{Op: "register", Pod: number, Name: c.Name, Addrs: []netip.Addr{pod.place.V4}}
	if _, err := n.ask(ctx, rq); err != nil {
		pod.Kill()
		return nil, err
	}
	return pod, nil
}

// setup checks c and fills in what was left out.
func (n *Node) setup(c Config) (podSetup, error) {
	s := podSetup{
		Name: c.Name, Dir: c.Dir, Command: c.Command, Env: c.Env, Capture: c.Capture,
		SkipSelfTest: c.SkipSelfTest, Sidecar: c.Sidecar, SidecarEnv: c.SidecarEnv, ReadyPorts: c.ReadyPorts,
		ReadyTimeout: c.ReadyTimeout, DrainTime: c.DrainTime,
	}
	if len(c.Command) == 0 {
		return s, errors.New("pod: no command to run")
	}
	if c.Capture != nil {
		if _, err := iptables.Plan(*c.Capture); err != nil {
			return s, err
		}
		if len(c.Sidecar) == 0 {
			return s, errors.New("pod: capture without a sidecar command")
		}
		if s.ReadyPorts == nil {
			s.ReadyPorts = []uint16{c.Capture.OutboundPort}
			if c.Capture.Inbound != iptables.None {
				s.ReadyPorts = append(s.ReadyPorts, c.Capture.InboundPort)
			}
			if c.Capture.DNSPort != 0 {
				s.ReadyPorts = append(s.ReadyPorts, c.Capture.DNSPort)
			}
		}
	}
	if strings.ContainsFunc(c.Name, func(r rune) bool {
		return r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) || len(c.Name) > 63 {
		return s, fmt.Errorf("pod: %q is not a name; use up to 63 of a-z, 0-9, - and .", c.Name)
	}
	if s.ReadyTimeout == 0 {
		s.ReadyTimeout = defaultReadyTimeout
	}
	if s.DrainTime == 0 {
		s.DrainTime = defaultDrainTime
	}
	return s, nil
}

// enter has the node make the pod's first process, and tells it what to do.
func (n *Node) enter(ctx context.Context, w *wire, s podSetup, ip netip.Addr, files []*os.File) (*Pod, int, error) {
	a, err := n.ask(ctx, request{Op: "start", IP: ip}, files...)
	if err != nil {
		return nil, 0, err
	}
	p := &Pod{name: s.Name, place: a.Place, w: w, done: make(chan struct{})}
	if err := w.send(s); err != nil {
		return nil, 0, fmt.Errorf("pod: %w", err)
	}
	stop := context.AfterFunc(ctx, w.close) // the pod ends with its wire
	defer stop()
	var ev event
	_, err = w.receive(&ev)
	switch {
	case ctx.Err() != nil:
		return nil, 0, ctx.Err()
	case err != nil:
		return nil, 0, fmt.Errorf("pod: %s did not start: %w", p.label(), err)
	case ev.Failure != nil:
		return nil, 0, ev.Failure.err()
	}
	go p.watch()
	return p, a.Pod, nil
}

func (p *Pod) label() string {
	if p.name != "" {
		return p.name
	}
	return p.place.V4.String()
}

// watch waits for the end of the pod.
func (p *Pod) watch() {
	defer close(p.done)
	defer p.w.close()
	seen := false
	for {
		var ev event
		_, err := p.w.receive(&ev)
		switch {
		case errors.Is(err, io.EOF) && seen:
			return // the first process is gone and everything with it
		case err != nil:
			if !seen {
				p.exit, p.err = Exit{Signal: syscall.SIGKILL}, fmt.Errorf("pod: %s was killed", p.label())
			}
			return
		case ev.Kind == "exit":
			p.exit, seen = ev.Exit, true
			p.err = ev.Failure.err()
		}
	}
}

// Addr returns the pod's addresses; v6 is invalid on a kernel without IPv6.
func (p *Pod) Addr() (v4, v6 netip.Addr) {
	if p.place.NoV6 {
		return p.place.V4, netip.Addr{}
	}
	return p.place.V4, p.place.V6
}

// Wait returns when every process of the pod has ended. The error says what
// ended it if it was not the program itself.
func (p *Pod) Wait() (Exit, error) {
	<-p.done
	return p.exit, p.err
}

// Done is closed when Wait would return at once.
func (p *Pod) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the program. The pod may have ended meanwhile.
func (p *Pod) Signal(s syscall.Signal) error { return p.w.send(command{Signal: int(s)}) }

// Kill ends every process of the pod at once.
func (p *Pod) Kill() { p.w.close() }
