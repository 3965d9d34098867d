package l4

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// alive asks a connection whose chain echoes whether it lives.
func alive(t *testing.T, c net.Conn) {
	t.Helper()
	io.WriteString(c, "?")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the connection is gone: %v", err)
	}
}

func gone(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection should have ended: %v", err)
	}
}

// watched echoes and tells when it is told to drain.
type watched struct {
	replay
	begun   chan<- *filter.Conn
	drained chan<- string
}

func (w watched) Serve(c *filter.Conn) error {
	name := c.Meta.FilterChain
	stop := c.Engine.OnDrain(func() { w.drained <- name })
	defer stop()
	w.begun <- c
	return w.replay.Serve(c)
}

func TestLiveUpdate(t *testing.T) {
	begun, drained := make(chan *filter.Conn, 10), make(chan string, 10)
	mk := func() filter.Network { return watched{begun: begun, drained: drained} }
	chain := func(name string, hash uint64, port uint16) *Chain {
		c := chainOf(name, Match{DestinationPort: port}, mk)
		c.Hash = hash
		return c
	}
	m := newTestManager(t, Options{DrainTime: 50 * time.Millisecond})
	p := uint16(ports.Free(t))
	at := []Address{{Addr: addr(fmt.Sprintf("127.0.0.1:%d", p))}}
	spec := func(hash uint64, def *Chain, chains ...*Chain) *Spec {
		return &Spec{Name: "l", Hash: hash, StatPrefix: "l", Addresses: at, Chains: chains, Default: def}
	}
	l := setListener(t, m, spec(1, chain("other", 9, 0), chain("port", 1, p)))
	kept := dial(t, l)
	if c := <-begun; c.Meta.FilterChain != "port" {
		t.Fatalf("chain %q", c.Meta.FilterChain)
	}

	// The same hash: nothing happens.
	setListener(t, m, spec(1, nil))
	alive(t, kept)

	// Another chain changes, this one stays: its connections are not even told.
	setListener(t, m, spec(2, chain("other", 10, 0), chain("port", 1, p)))
	alive(t, kept)
	if v := metric(m, "listener_manager.listener_in_place_updated"); v != 1 {
		t.Errorf("%d updates in place", v)
	}

	// The chain changes: its connections are told to drain, and live on as long as the
	// listener has a chain for them.
	setListener(t, m, spec(3, chain("other", 10, 0), chain("port 2", 2, p)))
	if s := <-drained; s != "port" {
		t.Errorf("%q was told", s)
	}
	alive(t, kept)
	second := dial(t, l)
	if c := <-begun; c.Meta.FilterChain != "port 2" {
		t.Errorf("a new connection got %q", c.Meta.FilterChain)
	}
	eventually(t, m, "listener_manager.total_filter_chains_draining", 1)
	tick := time.NewTimer(100 * time.Millisecond) // twice the drain time
	<-tick.C
	alive(t, kept)

	// No chain for them any more: told, and cut after the drain time.
	setListener(t, m, spec(4, nil, chain("else", 3, p+1)))
	if s := <-drained; s != "port 2" {
		t.Errorf("%q was told", s)
	}
	gone(t, second)
	kept.Close()
	eventually(t, m, "listener_manager.total_filter_chains_draining", 0)
	gone(t, dial(t, l))
	eventually(t, m, "listener.l.no_filter_chain_match", 1)
	if v := metric(m, "listener_manager.listener_modified"); v != 3 {
		t.Errorf("%d modifications", v)
	}
}

// TestUpdateUnderLoad changes a listener again and again while clients come and go:
// none of them sees it.
func TestUpdateUnderLoad(t *testing.T) {
	m := newTestManager(t, Options{})
	spec := func(i uint64) *Spec {
		c := chainOf("x", Match{}, echoing)
		c.Hash = i
		return &Spec{Name: "l", Hash: i, Addresses: []Address{loopback()}, Default: c}
	}
	l := setListener(t, m, spec(1))
	to := l.Bound()[0].String()
	long := dial(t, l)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			c, err := net.Dial("tcp", to)
			if err == nil {
				_, err = io.WriteString(c, "hi")
			}
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, 2))
			}
			if err != nil {
				done <- err
				return
			}
			c.Close()
		}
	}()
	for i := range uint64(300) {
		setListener(t, m, spec(i+2))
		alive(t, long)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAddressesChange(t *testing.T) {
	begun := make(chan *filter.Conn, 10)
	mk := func() filter.Network { return hold{begun: begun} }
	m := newTestManager(t, Options{})
	free := fmt.Sprintf("127.0.0.1:%d", ports.Free(t))
	c := chainOf("x", Match{}, mk)
	c.Hash = 5
	l := setListener(t, m, &Spec{Name: "l", Hash: 1, Addresses: []Address{loopback()}, Default: c})
	before := l.Bound()[0].String()
	old := dial(t, l)
	<-begun
	if same := setListener(t, m, &Spec{Name: "l", Hash: 2, Addresses: []Address{{Addr: addr(free)}}, Default: c}); same != l {
		t.Error("another listener")
	}
	if b := l.Bound(); len(b) != 1 || b[0].String() != free {
		t.Errorf("bound %v", b)
	}
	if _, err := net.Dial("tcp", before); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the old address: %v", err)
	}
	dial(t, l)
	<-begun
	old.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if _, err := old.Read(make([]byte, 1)); err == io.EOF {
		t.Error("a connection of the old address was closed")
	}
}

func TestBindFailureLeavesTheOldVersion(t *testing.T) {
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.Free(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	m := newTestManager(t, Options{})
	l := setListener(t, m, &Spec{Name: "l", Hash: 1, Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, speaking("old"))})
	bad := &Spec{Name: "l", Hash: 2, Addresses: []Address{loopback(), {Addr: addr(taken.Addr().String())}}, Default: chainOf("x", Match{}, speaking("new"))}
	wantErr(t, m.Set(bad), `listener "l"`, "address", taken.Addr().String(), "address already in use")
	if m.Ready() || m.Failed()["l"] == nil {
		t.Error("the failure is not known")
	}
	if s := said(t, dial(t, l)); s != "old" || len(l.Bound()) != 1 {
		t.Errorf("got %q at %v", s, l.Bound())
	}
	wantErr(t, m.Set(&Spec{Name: "other", Addresses: []Address{{Addr: addr(taken.Addr().String())}}, Default: chainOf("x", Match{}, speaking(""))}), `listener "other"`)
	taken.Close()
	setListener(t, m, bad)
	if s := said(t, dial(t, l)); s != "new" {
		t.Errorf("got %q", s)
	}
	if m.Ready() {
		t.Error(`ready without "other"`)
	}
	m.Remove("other")
	if !m.Ready() {
		t.Errorf("not ready: %v", m.Failed())
	}
	if v := metric(m, "listener_manager.listener_create_failure"); v != 2 {
		t.Errorf("%d failures counted", v)
	}
}

func TestSetRefuses(t *testing.T) {
	m := newTestManager(t, Options{})
	c := chainOf("x", Match{}, speaking(""))
	setListener(t, m, &Spec{Name: "a", Unbound: true, Addresses: []Address{{Addr: addr("10.0.0.1:80")}}, Default: c})
	wantErr(t, m.Set(&Spec{Addresses: []Address{loopback()}}), "name")
	wantErr(t, m.Set(&Spec{Name: "b", Default: c}), `listener "b"`, "address")
	wantErr(t, m.Set(&Spec{Name: "b", Default: c, Addresses: []Address{loopback(), {}}}), "additional_addresses[0]")
	wantErr(t, m.Set(&Spec{Name: "b", Default: c, Unbound: true, Addresses: []Address{{Addr: addr("10.0.0.1:80")}}}), `"a"`, "10.0.0.1:80", "already")
	wantErr(t, m.Set(&Spec{Name: "b", Chains: []*Chain{c, c}, Addresses: []Address{loopback()}}), "filter_chains[1].filter_chain_match")
	if n := len(m.Listeners()); n != 1 {
		t.Errorf("%d listeners", n)
	}
}

func TestRemove(t *testing.T) {
	begun, ended := make(chan *filter.Conn, 1), make(chan error, 1)
	m := newTestManager(t, Options{DrainTime: 100 * time.Millisecond})
	l := setListener(t, m, &Spec{Name: "l", StatPrefix: "l", Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, func() filter.Network { return hold{begun, ended} })})
	to := l.Bound()[0].String()
	c := dial(t, l)
	fc := <-begun
	if m.Remove("nobody") || !m.Remove("l") {
		t.Error("Remove tells the wrong thing")
	}
	<-fc.Engine.Draining()
	if _, err := net.Dial("tcp", to); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("still accepts: %v", err)
	}
	if v := metric(m, "listener_manager.total_listeners_draining"); v != 1 {
		t.Errorf("%d draining", v)
	}
	if <-ended; fc.Engine.Context().Err() == nil {
		t.Error("the context of a connection that was cut lives")
	}
	gone(t, c)
	eventually(t, m, "listener_manager.total_listeners_draining", 0)
	eventually(t, m, "listener.l.downstream_cx_total", -1) // its statistics go with it
}

func TestDrain(t *testing.T) {
	for _, gradual := range []bool{false, true} {
		begun, drained := make(chan *filter.Conn, 100), make(chan string, 100)
		mk := func() filter.Network { return watched{begun: begun, drained: drained} }
		m := newTestManager(t, Options{DrainTime: 600 * time.Millisecond, Gradual: gradual})
		in := setListener(t, m, &Spec{Name: "in", Direction: Inbound, Addresses: []Address{loopback()}, Default: chainOf("in", Match{}, mk)})
		out := setListener(t, m, &Spec{Name: "out", Direction: Outbound, Addresses: []Address{loopback()}, Default: chainOf("out", Match{}, mk)})
		var conns []net.Conn
		for range 10 {
			conns = append(conns, dial(t, in))
			<-begun
		}
		dial(t, out)
		<-begun
		to := in.Bound()[0].String()
		stopped := make(chan struct{})
		m.Drain(true, true, func() { close(stopped) })
		late := dialAddr(t, to) // graceful: accepts meanwhile
		<-begun
		for range 11 {
			if s := <-drained; s != "in" {
				t.Errorf("%q was told to drain", s)
			}
		}
		<-stopped
		if _, err := net.Dial("tcp", to); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("gradual %v: still accepts: %v", gradual, err)
		}
		alive(t, dial(t, out))
		<-begun
		for _, c := range append(conns, late) { // nothing is cut
			alive(t, c)
		}
		m.Drain(false, false, nil)
		if len(out.Bound()) != 0 {
			t.Error("still bound")
		}
	}
}

func TestOnDrainStops(t *testing.T) {
	c := &conn{}
	calls := 0
	stop := c.OnDrain(func() { calls += 10 })
	c.OnDrain(func() { calls++ })
	stop()
	c.drain()
	c.drain()
	if calls != 1 {
		t.Errorf("calls %d", calls)
	}
	<-c.Draining()
	late := make(chan struct{})
	c.OnDrain(func() { close(late) })
	<-late
}

func TestStartLater(t *testing.T) {
	m := newTestManager(t, Options{})
	n := NewManager(m.o)
	defer n.Close()
	l := setListener(t, n, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, speaking("hi"))})
	if n.Ready() {
		t.Error("ready before Start")
	}
	to := l.Bound()[0].String()
	if c, err := net.Dial("tcp", to); err == nil {
		c.Close()
		t.Error("a listener that does not accept yet takes connections")
	}
	n.Start()
	n.Start()
	if l.Bound()[0].String() != to {
		t.Errorf("bound to %s, then to %s", to, l.Bound()[0])
	}
	c := dial(t, l)
	if s := said(t, c); s != "hi" || !n.Ready() {
		t.Errorf("got %q", s)
	}
}
