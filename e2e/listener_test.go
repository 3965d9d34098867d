package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/xds/xdstest"
)

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

// from dials from an address, which chooses the filter chain.
func from(source, to string) func() (net.Conn, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	return func() (net.Conn, error) { return d.Dial("tcp", to) }
}

// twoChains is a listener with a chain that stays, for clients at 127.0.0.1, and one
// that is another one for each n, for everybody else.
func twoChains(s *shop, n int) *listenerv3.Listener {
	l := s.web()
	first := l.FilterChains[0]
	first.FilterChainMatch = &listenerv3.FilterChainMatch{SourcePrefixRanges: []*corev3.CidrRange{{AddressPrefix: "127.0.0.1", PrefixLen: wrapperspb.UInt32(32)}}}
	second := s.web().FilterChains[0]
	hcm := &hcmv3.HttpConnectionManager{}
	if err := second.Filters[0].GetTypedConfig().UnmarshalTo(hcm); err != nil {
		s.t.Fatal(err)
	}
	hcm.StatPrefix = "changing"
	hcm.ServerName = fmt.Sprintf("mecha-%d", n)
	second.Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: xdstest.Pack(s.t, hcm)}
	l.FilterChains = append(l.FilterChains, second)
	l.ListenerFiltersTimeout = durationpb.New(time.Duration(n+1) * time.Second)
	return l
}

// TestListenerUpdatesUnderLoad changes one of two filter chains: connections of the
// other one notice nothing, those of the changed one are told to go and lose nothing.
func TestListenerUpdatesUnderLoad(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		s := openShop(t, delta, func(s *shop) []proto.Message {
			return append(s.static(), xdstest.Route("shop", "a"), twoChains(s, 0))
		})
		changing := startLoadOver(t, from("127.0.0.2", local(s.port)))
		idle := newKept(t, from("127.0.0.1", local(s.port)))
		for i := range 200 {
			s.push(twoChains(s, i+1))
		}
		idle.get()
		changing.answered(100)
		changing.stop()
		if changing.closes == 0 {
			t.Error("no connection of the changed chain was told to go")
		}
		if n := s.mecha.stat("listener_manager.listener_in_place_updated"); n != 200 {
			t.Errorf("listener_in_place_updated is %d, want 200", n)
		}
		s.mecha.until("listener_manager.total_filter_chains_draining", 0)
		idle.Close()
		s.close()
		if s.load.closes > 0 {
			t.Errorf("%d connections of the chain that stays were drained", s.load.closes)
		}
	})
}

// kept is a connection that stays open between requests.
type kept struct {
	net.Conn
	t    *testing.T
	r    *bufio.Reader
	last bool // the answer has announced the end of the connection
}

func newKept(t *testing.T, dial func() (net.Conn, error)) *kept {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	k := &kept{Conn: c, t: t, r: newReader(c)}
	k.get()
	return k
}

// get makes a request and reports whether it was the last one of the connection.
func (k *kept) get() (last bool) {
	k.t.Helper()
	_, last, err := client{path: "/get"}.exchange(k, k.r)
	if err != nil {
		k.t.Errorf("a connection that was idle: %v", err)
	}
	k.last = last
	return last
}

// TestIdleConnectionsOutliveTheirChain: nobody can tell a client of HTTP/1 that its
// idle connection is about to close, so its next request must still be answered,
// whether it has been idle for a moment or for long.
func TestIdleConnectionsOutliveTheirChain(t *testing.T) {
	t.Parallel()
	s := openShop(t, true, func(s *shop) []proto.Message {
		return append(s.static(), xdstest.Route("shop", "a"), twoChains(s, 0))
	})
	long := newKept(t, from("127.0.0.2", local(s.port)))
	wait(3 * time.Second)
	short := newKept(t, from("127.0.0.2", local(s.port)))
	s.push(twoChains(s, 1))
	// Past the drain time: the new chain would take these clients, so they may stay.
	wait(1500 * time.Millisecond)
	if !long.get() || !short.get() {
		t.Error("the answer after the change should have been the last one of its connection")
	}
	s.mecha.until("listener_manager.total_filter_chains_draining", 0)
	s.close()
}
