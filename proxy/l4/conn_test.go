package l4

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// tracer notes the order in which its hooks are called.
type tracer struct {
	name  string
	trace func(string)
	deny  error
}

func (*tracer) Reset() {}

func (f *tracer) OnConn(*filter.Conn) error {
	f.trace(f.name + " conn")
	return f.deny
}

func (f *tracer) OnRead(_ *filter.Conn, b *buffer.Buf, end bool) error {
	f.trace(fmt.Sprintf("%s read %q %v", f.name, b.Bytes(), end))
	if b.Len() > 0 {
		b.AppendString("<" + f.name)
	}
	return nil
}

func (f *tracer) OnWrite(_ *filter.Conn, b *buffer.Buf, end bool) error {
	f.trace(fmt.Sprintf("%s write %q %v", f.name, b.Bytes(), end))
	return nil
}

func (f *tracer) OnClose(_ *filter.Conn, why error) { f.trace(fmt.Sprintf("%s close %v", f.name, why)) }

// replay is a terminal filter that sends everything back.
type replay struct{}

func (replay) Reset() {}

func (replay) Serve(c *filter.Conn) error {
	var b buffer.Buf
	for {
		end, err := c.Engine.Recv(&b)
		if err != nil {
			return err
		}
		if err := c.Engine.Send(&b, end); err != nil || end {
			return err
		}
	}
}

func TestHookOrder(t *testing.T) {
	var mu sync.Mutex
	var got []string
	trace := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, s)
	}
	m := newTestManager(t, Options{})
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: &Chain{Filters: []NetworkFilter{
		filterOf("a", func() filter.Network { return &tracer{name: "a", trace: trace} }),
		filterOf("b", func() filter.Network { return &tracer{name: "b", trace: trace} }),
		filterOf("replay", func() filter.Network { return replay{} }),
	}}})
	c := dial(t, l)
	io.WriteString(c, "x")
	io.ReadFull(c, make([]byte, 5))
	c.CloseWrite()
	if s := said(t, c); s != "" {
		t.Errorf("got %q", s)
	}
	eventually(t, m, "listener.127.0.0.1_0.downstream_cx_destroy", 1)
	mu.Lock()
	defer mu.Unlock()
	want := []string{
		"a conn", "b conn",
		`a read "x" false`, `b read "x<a" false`, `b write "x<a<b" false`, `a write "x<a<b" false`,
		`a read "" true`, `b read "" true`, `b write "" true`, `a write "" true`,
		"a close <nil>", "b close <nil>",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOnConnRefuses(t *testing.T) {
	closed := make(chan string, 10)
	trace := func(s string) {
		if strings.Contains(s, "close") {
			closed <- s
		}
	}
	m := newTestManager(t, Options{})
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: &Chain{Filters: []NetworkFilter{
		filterOf("a", func() filter.Network { return &tracer{name: "a", trace: trace, deny: errTest} }),
		filterOf("speak", speaking("never")),
	}}})
	if s := said(t, dial(t, l)); s != "" {
		t.Errorf("got %q", s)
	}
	if s := <-closed; s != "a close test" {
		t.Errorf("got %q", s)
	}
}

type panicky struct{ seer }

func (*panicky) Serve(*filter.Conn) error { panic("on purpose") }

func TestPanicEndsOneConnection(t *testing.T) {
	m := newTestManager(t, Options{})
	var n atomic.Int32
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, func() filter.Network {
		if n.Add(1) == 2 { // the first one is for the check of its hooks
			return &panicky{}
		}
		return speak{func(*filter.Conn) string { return "fine" }}
	})})
	if s := said(t, dial(t, l)); s != "" {
		t.Errorf("got %q", s)
	}
	if s := said(t, dial(t, l)); s != "fine" {
		t.Errorf("got %q", s)
	}
	if v := metric(m, "listener.127.0.0.1_0.mecha_connection_panics"); v != 1 {
		t.Errorf("%d panics counted", v)
	}
	eventually(t, m, "listener.127.0.0.1_0.downstream_cx_active", 0)
}

// Filters that would silently do nothing.
type (
	misspelled struct{ seer }
	wrongSig   struct{}
	useless    struct{}
)

func (*misspelled) OnReadData(*filter.Conn) error { return nil }
func (wrongSig) Reset()                           {}
func (wrongSig) OnConn() error                    { return nil }
func (useless) Reset()                            {}

func TestChainsAreChecked(t *testing.T) {
	term := filterOf("term", speaking(""))
	of := func(f filter.Network) NetworkFilter { return filterOf("odd", func() filter.Network { return f }) }
	for _, c := range []struct {
		name    string
		filters []NetworkFilter
		want    []string
	}{
		{"misspelled", []NetworkFilter{of(&misspelled{}), term}, []string{"filter_chains[0].filters[0]", "OnReadData", "no hook"}},
		{"signature", []NetworkFilter{of(wrongSig{}), term}, []string{"OnConn", "ConnOpener"}},
		{"no hook", []NetworkFilter{of(useless{}), term}, []string{"has no hook"}},
		{"two terminals", []NetworkFilter{term, term}, []string{"filters[0]", "terminal filter named term must be the last filter"}},
		{"no terminal", []NetworkFilter{of(&seer{})}, []string{"non-terminal filter named odd is the last filter"}},
		{"nothing", nil, []string{"no network filter"}},
		{"factory", []NetworkFilter{{Name: "f", Factory: func(filter.Env) (func() filter.Network, error) {
			return nil, filter.At("stat_prefix", errTest)
		}}}, []string{"filter_chains[0].filters[0].stat_prefix: test"}},
	} {
		m := newTestManager(t, Options{})
		err := m.Set(&Spec{Name: "l", Addresses: []Address{loopback()}, Chains: []*Chain{{Filters: c.filters}}})
		wantErr(t, err, append(c.want, `listener "l"`)...)
	}
	// A filter whose factory leaves it out is not in the path.
	m := newTestManager(t, Options{})
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: &Chain{Filters: []NetworkFilter{
		{Name: "off", Factory: func(filter.Env) (func() filter.Network, error) { return nil, nil }}, filterOf("s", speaking("hi")),
	}}})
	if s := said(t, dial(t, l)); s != "hi" {
		t.Errorf("got %q", s)
	}
}

// parking is a terminal filter that parks between lines.
type parking struct {
	until  time.Duration
	parked chan<- struct{}
	ended  chan<- error
}

func (*parking) Reset() {}

func (f *parking) Serve(c *filter.Conn) error { return f.park(c) }

func (f *parking) park(c *filter.Conn) error {
	var deadline time.Time
	if f.until > 0 {
		deadline = time.Now().Add(f.until)
	}
	if !c.Engine.Park(deadline, func(readable bool) error { return f.resume(c, readable) }) {
		return errors.New("cannot park")
	}
	f.parked <- struct{}{}
	return filter.Parked
}

func (f *parking) resume(c *filter.Conn, readable bool) error {
	if !readable {
		f.ended <- errTest
		return nil
	}
	var b buffer.Buf
	end, err := c.Engine.Recv(&b)
	if end || err != nil {
		f.ended <- err
		return err
	}
	if err := c.Engine.Send(&b, false); err != nil {
		return err
	}
	return f.park(c)
}

func TestPark(t *testing.T) {
	parked, ended := make(chan struct{}, 10), make(chan error, 10)
	m := newTestManager(t, Options{})
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: chainOf("p", Match{}, func() filter.Network {
		return &parking{parked: parked, ended: ended}
	})})
	c := dial(t, l)
	for range 3 {
		<-parked
		io.WriteString(c, "ping")
		got := make([]byte, 4)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	<-parked
	c.Close()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	eventually(t, m, "listener.127.0.0.1_0.downstream_cx_active", 0)

	l = setListener(t, m, &Spec{Name: "d", Addresses: []Address{loopback()}, StatPrefix: "d", Default: chainOf("p", Match{}, func() filter.Network {
		return &parking{parked: parked, ended: ended, until: 20 * time.Millisecond}
	})})
	c = dial(t, l)
	<-parked
	if err := <-ended; err != errTest {
		t.Errorf("after the deadline: %v", err)
	}
	if s := said(t, c); s != "" {
		t.Errorf("got %q", s)
	}
}

// TestCloseEndsEverything: connections that wait for upstream, for a client, that
// are parked, or that listener filters still look at.
func TestCloseEndsEverything(t *testing.T) {
	begun, ended := make(chan *filter.Conn, 1), make(chan error, 1)
	parked, resumed := make(chan struct{}, 1), make(chan error, 1)
	peeking := make(chan struct{}, 1)
	m := newTestManager(t, Options{})
	busy := server(t, func(c *net.TCPConn) {
		io.WriteString(c, "!")
		io.Copy(io.Discard, c)
	})
	relay, res := relayTo(t, m, busy, false, 0)
	holding := setListener(t, m, &Spec{Name: "h", Addresses: []Address{loopback()}, Default: chainOf("h", Match{}, func() filter.Network { return hold{begun, ended} })})
	idle := setListener(t, m, &Spec{Name: "p", Addresses: []Address{loopback()}, Default: chainOf("p", Match{}, func() filter.Network {
		return &parking{parked: parked, ended: resumed}
	})})
	looking := setListener(t, m, &Spec{Name: "f", Addresses: []Address{loopback()}, Default: chainOf("s", Match{}, speaking("")), Filters: []ListenerFilter{
		inspects(func(p filter.Peeker) error {
			peeking <- struct{}{}
			_, err := p.Peek(1)
			return err
		}),
	}})
	var clients []*net.TCPConn
	for _, l := range []*Listener{relay, holding, idle, looking} {
		clients = append(clients, dial(t, l))
	}
	io.ReadFull(clients[0], make([]byte, 1))
	<-begun
	<-parked
	<-peeking
	m.Close()
	<-res
	<-ended
	<-resumed
	for i, c := range clients {
		if _, err := io.ReadAll(c); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("client %d: %v", i, err)
		}
	}
	wantErr(t, m.Set(&Spec{Name: "x"}), "closed")
}
