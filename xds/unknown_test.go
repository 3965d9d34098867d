package xds_test

import (
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// newer gives a message a field that nobody knows, twice.
func newer[M proto.Message](m M) M {
	m.ProtoReflect().SetUnknown([]byte{0xfa, 0xff, 0x7f, 0x01, 'x', 0xf2, 0xff, 0x7f, 0x01, 'x'})
	return m
}

func newerClusters(t *testing.T) (all []ads.Resource) {
	for _, name := range []string{"a", "b", "c", "d"} {
		c := &clusterv3.Cluster{Name: name, ConnectTimeout: durationpb.New(1e9)}
		if name != "c" {
			newer(c)
		}
		if name != "a" {
			c.UpstreamBindConfig = newer(&corev3.BindConfig{SourceAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{}}})
		}
		body, err := anypb.New(c)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ads.Resource{Name: name, Body: body})
	}
	return all
}

// The counts and the text are those of Envoy 1.40 for the same clusters.
func TestUnknownFields(t *testing.T) {
	for _, c := range []struct {
		policy  xds.UnknownFields
		counted int64
		refused string
	}{
		{xds.CountUnknown, 2, ""},
		{xds.IgnoreUnknown, 0, ""},
		{xds.RefuseUnknown, 0, "Protobuf message (type envoy.config.cluster.v3.Cluster(root) with unknown field set {262143, 262142}) has unknown fields"},
	} {
		plane := xdstest.New(t)
		k := proxyOf(t, plane, "static_resources: {clusters: [XDS]}", func(o *xds.Options) { o.Unknown = c.policy })
		refused := k.manager.Apply(ads.Update{TypeURL: ads.ClusterType, Changed: newerClusters(t)})
		if got := k.stat("server.dynamic_unknown_fields"); got != c.counted {
			t.Errorf("policy %d: %d counted, want %d", c.policy, got, c.counted)
		}
		switch {
		case c.refused == "" && len(refused) > 0:
			t.Errorf("policy %d: %v", c.policy, refused[0].Err)
		case c.refused != "" && (len(refused) != 4 || !slices.ContainsFunc(refused, func(r ads.Refusal) bool { return r.Err.Error() == c.refused })):
			t.Errorf("policy %d: %v", c.policy, refused)
		}
	}
}

// A message in an Any is one of its own, and a listener has many.
func TestUnknownFieldsInAny(t *testing.T) {
	plane := xdstest.New(t)
	k := proxyOf(t, plane, "static_resources: {clusters: [XDS]}", func(o *xds.Options) { o.Unknown = xds.RefuseUnknown })
	l := httpListener(t, "l", "route_config: "+answers("r", "yes")+routerFilter)
	good, err := anypb.New(l)
	if err != nil {
		t.Fatal(err)
	}
	if refused := k.manager.Apply(ads.Update{TypeURL: ads.ListenerType, Changed: []ads.Resource{{Name: "l", Body: good}}}); len(refused) > 0 {
		t.Fatal(refused[0].Err)
	}
	inner, err := anypb.New(newer(&routerv3.Router{}))
	if err != nil {
		t.Fatal(err)
	}
	l.ListenerFilters = nil
	l.FilterChains[0].Filters[0].GetTypedConfig().Value = append(l.FilterChains[0].Filters[0].GetTypedConfig().Value, field(5, field(4, mustMarshal(t, inner)))...)
	bad, err := anypb.New(l)
	if err != nil {
		t.Fatal(err)
	}
	refused := k.manager.Apply(ads.Update{TypeURL: ads.ListenerType, Changed: []ads.Resource{{Name: "l", Body: bad}}})
	if len(refused) != 1 || !strings.Contains(refused[0].Err.Error(), "type envoy.extensions.filters.http.router.v3.Router(root) with") {
		t.Errorf("got %v", refused)
	}
}

// field is a field of that number with bytes.
func field(num byte, b []byte) []byte { return append([]byte{num<<3 | 2, byte(len(b))}, b...) }

func mustMarshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil || len(b) > 120 {
		t.Fatal(len(b), err)
	}
	return b
}
