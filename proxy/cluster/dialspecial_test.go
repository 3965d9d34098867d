package cluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

func TestPassed(t *testing.T) {
	s := &Spec{Metadata: map[string]map[string]any{"c": {"k": "cluster"}, "both": {"k": "cluster"}}}
	h := &Host{Metadata: map[string]map[string]any{"h": {"k": "host"}, "both": {"k": "host"}, "not": {"k": 1.0}}}
	peer := &transport.Peer{State: []meta.Object{{Key: "x", Value: "y"}}}
	socket := &transport.Internal{Socket: transport.Raw{}, Passthrough: []transport.Passthrough{{Namespace: "h"}, {Namespace: "none"}, {Namespace: "c", Cluster: true}, {Namespace: "both"}}}
	want := meta.Passed{State: peer.State, Metadata: map[string]map[string]any{"h": {"k": "host"}, "c": {"k": "cluster"}, "both": {"k": "host"}}}
	if got := passed(s, h, socket, peer); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got := passed(s, h, transport.Raw{}, peer); got.Metadata != nil || got.State != nil {
		t.Errorf("without internal_upstream %+v is passed", got)
	}
}

// TestOriginalSource: connections come from where downstream came from.
func TestOriginalSource(t *testing.T) {
	from, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	seen := make(chan string, 10)
	go func() {
		for {
			c, err := from.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			seen <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		}
	}()
	to := meta.AddrOf(from.Addr())
	for _, ip := range []string{"127.0.0.7", "127.0.0.8"} {
		c, err := dialFrom(context.Background(), &Spec{}, to, meta.Source{Addr: netip.MustParseAddr(ip)})
		switch {
		case errors.Is(err, unix.EPERM):
			t.Skip("it needs CAP_NET_ADMIN")
		case err != nil:
			t.Fatal(err)
		}
		if got := receive(t, seen); got != ip {
			t.Errorf("the connection comes from %s, want %s", got, ip)
		}
		c.Close()
	}
}

// TestPoolsOfOriginalSources: HTTP connections are shared by clients of one address only.
func TestPoolsOfOriginalSources(t *testing.T) {
	o := newOrigin(t)
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(o.host()))
	h := mustPick(t, c)
	of := func(id uint64, ip string) *Attempt {
		a := from(id, ip+":1")
		a.Conn.UpstreamSource = &meta.Source{Addr: netip.MustParseAddr(ip)}
		return a
	}
	first, err := c.Acquire(context.Background(), h, of(1, "127.0.0.7"), soon())
	if errors.Is(err, unix.EPERM) {
		t.Skip("it needs CAP_NET_ADMIN")
	} else if err != nil {
		t.Fatal(err)
	}
	c.Release(first, true)
	for _, tc := range []struct {
		a    *Attempt
		same bool
	}{{of(2, "127.0.0.8"), false}, {from(3, "127.0.0.7:3"), false}, {of(4, "127.0.0.7"), true}} {
		conn := acquireFor(t, c, h, tc.a)
		if (conn == first) != tc.same {
			t.Errorf("client %s shares the connection of 127.0.0.7: %v", tc.a.Conn.Remote, conn == first)
		}
		if s := tc.a.Conn.UpstreamSource; s != nil && conn.Local.Addr() != s.Addr {
			t.Errorf("the connection for %s comes from %s", s.Addr, conn.Local)
		}
		c.Release(conn, true)
	}
}

// TestPoolsOfSharedState: connections to internal listeners are told apart by the filter
// state that they bring along, others are not.
func TestPoolsOfSharedState(t *testing.T) {
	told := make(chan meta.Passed, 10)
	o := newOrigin(t)
	m := newTestManager(t, Options{Internal: func(ctx context.Context, _ meta.Addr, with meta.Passed) (*netio.Conn, error) {
		told <- with
		return netio.Dial(ctx, netio.DialOptions{Addr: meta.AddrOf(o.Addr())})
	}})
	s := staticSpec(HostSpec{Addr: meta.InternalAddr("inner", "")})
	s.Socket = &transport.Internal{Socket: transport.Raw{}}
	c := mustSet(t, m, s)
	h := mustPick(t, c)
	with := func(value string) *Attempt {
		return &Attempt{Shared: []meta.Object{{Key: "k", Value: value}}}
	}
	first := acquireFor(t, c, h, with("a"))
	c.Release(first, true)
	for _, tc := range []struct {
		a    *Attempt
		same bool
	}{{with("b"), false}, {&Attempt{}, false}, {with("a"), true}} {
		conn := acquireFor(t, c, h, tc.a)
		if (conn == first) != tc.same {
			t.Errorf("with %v the connection of a is shared: %v", tc.a.Shared, conn == first)
		}
		c.Release(conn, true)
	}
	for _, want := range [][]meta.Object{with("a").Shared, with("b").Shared, nil} {
		if got := receive(t, told); !reflect.DeepEqual(got.State, want) {
			t.Errorf("told %v, want %v", got.State, want)
		}
	}
	plain := mustPick(t, mustSet(t, newTestManager(t, Options{}), staticSpec(o.host())))
	if plain.hostPool(with("a")) != plain.hostPool(nil) {
		t.Error("filter state tells connections to other hosts apart")
	}
}
