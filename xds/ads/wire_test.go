package ads_test

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

func mustAny(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNamesAreReadFromTheBytes(t *testing.T) {
	for _, tc := range []struct {
		what string
		body *anypb.Any
		want string
		ok   bool
	}{
		{"cluster", mustAny(t, xdstest.StaticCluster("c", "127.0.0.1", 1)), "c", true},
		{"load assignment", mustAny(t, xdstest.Endpoints("e")), "e", true},
		{"listener", mustAny(t, xdstest.TCPListener(t, "l", "127.0.0.1", 1, "c")), "l", true},
		{"routes", mustAny(t, xdstest.Route("r", "c")), "r", true},
		{"empty", &anypb.Any{}, "", false},
		{"no bytes at all", nil, "", false},
		{"garbage", &anypb.Any{Value: []byte{0xff, 0xff, 0xff}}, "", false},
		{"name, then garbage", &anypb.Any{Value: []byte{0x0a, 1, 'n', 0x12, 200}}, "n", true},
		{"name too short", &anypb.Any{Value: []byte{0x0a, 9, 'n'}}, "", false},
	} {
		got, err := ads.NameOf(tc.body)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("%s: %q, %v; want %q, ok %v", tc.what, got, err, tc.want, tc.ok)
		}
	}
}

func TestWrappedSotWResource(t *testing.T) {
	inner := mustAny(t, xdstest.Route("inner", "c"))
	wrapped := mustAny(t, &discoveryv3.Resource{Name: "outer", Version: "7", Resource: inner})
	r := ads.FromSotW(&discoveryv3.DiscoveryResponse{TypeUrl: ads.RouteType, VersionInfo: "v", Resources: []*anypb.Any{wrapped}})
	if len(r.Resources) != 1 || r.Resources[0].Name != "outer" || r.Resources[0].Body.GetTypeUrl() != ads.RouteType {
		t.Errorf("unwrapped to %+v", r)
	}
}

// Nothing a server can put into a response makes the client panic or deliver a
// resource without a name or body.
func FuzzResponse(f *testing.F) {
	seed := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(seed(&discoveryv3.DiscoveryResponse{TypeUrl: ads.ClusterType, VersionInfo: "1", Nonce: "1", Resources: []*anypb.Any{mustAny(f, xdstest.StaticCluster("c", "127.0.0.1", 1))}}))
	f.Add(seed(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: ads.ClusterType, Nonce: "1", RemovedResources: []string{"c"}, Resources: []*discoveryv3.Resource{{Name: "c", Resource: mustAny(f, xdstest.StaticCluster("c", "127.0.0.1", 1))}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []ads.Variant{ads.SotW, ads.Delta} {
			var in ads.Response
			var sotw discoveryv3.DiscoveryResponse
			var delta discoveryv3.DeltaDiscoveryResponse
			if v == ads.SotW && proto.Unmarshal(data, &sotw) == nil {
				in = ads.FromSotW(&sotw)
			} else if v == ads.Delta && proto.Unmarshal(data, &delta) == nil {
				in = ads.FromDelta(&delta)
			} else {
				continue
			}
			in.TypeURL = ads.ClusterType
			m := ads.NewMachine(v, true)
			m.Step(ads.SubscribeEvent{TypeURL: ads.ClusterType})
			m.Step(ads.OpenedEvent{})
			m.Next()
			u := receive(t, m, in)
			if u == nil {
				t.Fatal("a response of a subscribed type was not delivered")
			}
			for _, r := range u.Changed {
				if r.Name == "" || r.Body == nil || r.Body.GetTypeUrl() != ads.ClusterType {
					t.Errorf("delivered %+v", r)
				}
			}
			if _, ok := m.Next(); !ok {
				t.Error("the response was not answered")
			}
		}
	})
}

// TestVirtualHostsWithoutBody: a control plane says so that there is no virtual host for a
// name, or no more.
func TestVirtualHostsWithoutBody(t *testing.T) {
	held := ads.Inventory{}
	any := func(string) bool { return true }
	u, refused := held.Diff(ads.Response{TypeURL: ads.VirtualHostType, Resources: []ads.Resource{{Name: "r/a", Version: "1", Aliases: []string{"r/b"}}}}, any, false)
	if len(refused) > 0 || len(u.Removed) != 2 || u.Removed[0] != "r/a" || u.Removed[1] != "r/b" {
		t.Errorf("removed %v, refused %v", u.Removed, refused)
	}
}
