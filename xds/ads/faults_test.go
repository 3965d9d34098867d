package ads_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

func TestControlPlaneKilledAndBack(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		s := xdstest.New(t)
		s.Set(xdstest.StaticCluster("a", "127.0.0.1", 1), xdstest.StaticCluster("b", "127.0.0.1", 2), xdstest.Route("r1", "a"), xdstest.Route("r2", "b"))
		h := newTable()
		c := start(t, v, h, s.Address())
		c.Subscribe(ads.ClusterType, 0)
		c.Subscribe(ads.RouteType, 0, "r1")
		h.untilHas(t, ads.ClusterType, "a", "b")
		h.untilHas(t, ads.RouteType, "r1")
		s.Await("an ACK", func(r xdstest.Request) bool { return r.TypeURL == ads.RouteType && r.ACK() })

		s.Kill()
		h.until(t, "the loss to be noticed", func(*table) bool { h.signal(); return !c.Stats().Connected })
		h.untilHas(t, ads.ClusterType, "a", "b") // the last configuration stays
		// While it is away both sides change.
		s.Remove(ads.ClusterType, "b")
		s.Set(xdstest.StaticCluster("c", "127.0.0.1", 3))
		c.Subscribe(ads.RouteType, 0, "r2")
		s.Restart()
		h.untilHas(t, ads.ClusterType, "a", "c")
		h.untilHas(t, ads.RouteType, "r1", "r2")

		again := s.Await("the first request after the restart", func(r xdstest.Request) bool { return r.Stream == 2 })
		if again.NodeID == "" || again.Nonce != "" {
			t.Errorf("%+v: a new stream begins with the node and no nonce", again)
		}
		if v == ads.Delta && len(again.Initial) != 2 {
			t.Errorf("initial_resource_versions %v, want those of a and b", again.Initial)
		}
		if v == ads.SotW && again.Version == "" {
			t.Error("the version held isn't sent on a new stream")
		}
		if _, most := s.Streams(); most != 1 {
			t.Errorf("%d streams at once, never more than one is allowed", most)
		}
	})
}

func TestStreamsDroppedUnderUpdates(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		s := xdstest.New(t)
		h := newTable()
		c := start(t, v, h, s.Address())
		c.Subscribe(ads.EndpointType, 0, "e0", "e1", "e2")
		for i := range 60 {
			s.Set(xdstest.Endpoints(fmt.Sprintf("e%d", i%3), xdstest.SocketAddress("10.0.0.1", uint32(i+1))))
			if i%7 == 0 {
				s.DropStreams()
			}
			h.until(t, fmt.Sprintf("update %d", i), func(h *table) bool {
				body := h.have[ads.EndpointType][fmt.Sprintf("e%d", i%3)]
				want, _ := anypb.New(xdstest.Endpoints(fmt.Sprintf("e%d", i%3), xdstest.SocketAddress("10.0.0.1", uint32(i+1))))
				return body == string(want.Value)
			})
		}
		if _, most := s.Streams(); most != 1 {
			t.Errorf("%d streams at once", most)
		}
	})
}

func TestBadResourceIsRefusedByNameOthersApply(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		s := xdstest.New(t)
		broken := func(name string) *anypb.Any {
			return &anypb.Any{TypeUrl: ads.ClusterType, Value: append([]byte{0x0a, byte(len(name))}, name+"\x12\x06BROKEN"...)}
		}
		s.Set(xdstest.StaticCluster("bad1", "127.0.0.1", 1))
		h := newTable()
		c := start(t, v, h, s.Address())
		c.Subscribe(ads.ClusterType, 0)
		h.untilHas(t, ads.ClusterType, "bad1")
		release := s.Hold()
		s.SetRaw("bad1", broken("bad1"))
		s.SetRaw("bad2", broken("bad2"))
		s.Set(xdstest.StaticCluster("good", "127.0.0.1", 1))
		release()
		h.untilHas(t, ads.ClusterType, "bad1", "good") // bad1 in its last good version
		nack := s.Await("the NACK", func(r xdstest.Request) bool { return r.Error != "" })
		if !strings.Contains(nack.Error, "bad1: lb_policy") || !strings.Contains(nack.Error, "bad2: lb_policy") || strings.Contains(nack.Error, "good") {
			t.Errorf("NACK %q, want it to name bad1 and bad2 only", nack.Error)
		}
		// Repaired: everything applies.
		s.Set(xdstest.StaticCluster("bad1", "127.0.0.1", 9), xdstest.StaticCluster("bad2", "127.0.0.1", 9))
		h.untilHas(t, ads.ClusterType, "bad1", "bad2", "good")
	})
}

func TestFetchTimeoutWhenTheServerIsSilent(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		s := xdstest.New(t)
		s.Set(xdstest.StaticCluster("a", "127.0.0.1", 1))
		release := s.Hold()
		h := newTable()
		c := start(t, v, h, s.Address())
		c.Subscribe(ads.ClusterType, 20*time.Millisecond)
		h.until(t, "initial_fetch_timeout", func(h *table) bool { return slices.Equal(h.expired, []string{"Cluster/*"}) })
		release()
		h.untilHas(t, ads.ClusterType, "a") // late is not never
	})
}

func TestNextAddressIsTriedWhenOneIsDown(t *testing.T) {
	dead := xdstest.New(t)
	dead.Kill()
	s := xdstest.New(t)
	s.Set(xdstest.StaticCluster("a", "127.0.0.1", 1))
	h := newTable()
	c := start(t, ads.Delta, h, dead.Address(), s.Address())
	c.Subscribe(ads.ClusterType, 0)
	h.untilHas(t, ads.ClusterType, "a")
	if st := c.Stats(); st.Disconnects == 0 || !st.Connected {
		t.Errorf("stats %+v, want a failed attempt and a connection", st)
	}
}

// Requests and responses larger than the flow-control windows cross on the way:
// a client that stops receiving while it sends would stand still for ever.
func TestLargeMessagesBothWays(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		s := xdstest.New(t)
		var want []string
		for i := range 4000 {
			name := fmt.Sprintf("outbound|80||service-%d.a-long-namespace-name.svc.cluster.local", i)
			s.Set(xdstest.Endpoints(name, xdstest.SocketAddress("10.0.0.1", 80)))
			want = append(want, name)
		}
		h := newTable()
		c := start(t, v, h, s.Address())
		for _, part := range slices.Collect(slices.Chunk(want, 100)) {
			c.Subscribe(ads.EndpointType, 0, part...)
		}
		h.until(t, "4000 endpoints", func(h *table) bool { return len(h.have[ads.EndpointType]) == len(want) })
	})
}

func TestSubscriptionsMadeTogetherTravelTogether(t *testing.T) {
	s := xdstest.New(t)
	h := newTable()
	var c *ads.Client
	ready := make(chan struct{})
	h.onApply = func(u ads.Update) {
		<-ready
		if u.TypeURL == ads.ClusterType {
			for i := range 50 {
				c.Subscribe(ads.EndpointType, 0, fmt.Sprintf("e%d", i))
			}
		}
	}
	c = start(t, ads.SotW, h, s.Address())
	close(ready)
	c.Subscribe(ads.ClusterType, 0)
	r := s.Await("EDS", func(r xdstest.Request) bool { return r.TypeURL == ads.EndpointType })
	if len(r.Names) != 50 {
		t.Errorf("the first EDS request names %d, want all 50 of the update", len(r.Names))
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, cfg := range map[string]ads.Config{
		"no control plane address": {Handler: newTable()},
		"no handler":               {Addresses: []string{"127.0.0.1:1"}},
		"no transport security":    {Addresses: []string{"127.0.0.1:1"}, Handler: newTable()},
	} {
		if _, err := ads.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
}

func TestRunEndsWhileConnecting(t *testing.T) {
	c, err := ads.New(ads.Config{Addresses: []string{"unix:/nonexistent/xds.sock"}, Handler: newTable(), DialOptions: plain()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	noGoroutineOf(t, "xds/ads.")
}
