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
		if got := <-seen; got != ip {
			t.Errorf("the connection comes from %s, want %s", got, ip)
		}
		c.Close()
	}
}
