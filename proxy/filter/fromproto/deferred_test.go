package fromproto_test

import (
	"fmt"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// among adds many virtual hosts to a table, behind its own.
func among(t testing.TB, raw []byte) []byte {
	t.Helper()
	var pb routev3.RouteConfiguration
	if err := proto.Unmarshal(raw, &pb); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		name := fmt.Sprintf("one-of-many-%d", i)
		pb.VirtualHosts = append(pb.VirtualHosts, &routev3.VirtualHost{Name: name, Domains: []string{name}})
	}
	out, err := proto.Marshal(&pb)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A virtual host means the same among many, which are read one by one when they are
// needed, as among few: in what is refused, and why.
func TestManyHostsAreRefusedAlike(t *testing.T) {
	_, all := readVerdicts(t)
	for _, v := range all {
		var pb routev3.RouteConfiguration
		if err := protojson.Unmarshal([]byte(v.json), &pb); err != nil {
			t.Fatal(err)
		}
		_, err := fromproto.Routes(among(t, fromJSON(t, v.json)), newParser(t))
		if got := fmt.Sprint(err); v.accepted() && err != nil || !v.accepted() && got != v.message {
			t.Errorf("%s: got %s, want %q", v.name, got, v.message)
		}
	}
}

// And in what becomes of requests.
func TestManyHostsServeAlike(t *testing.T) {
	raw := fromJSON(t, `{"name": "t",
  "requestHeadersToAdd": [{"header": {"key": "x-table", "value": "1"}}],
  "virtualHosts": [
  {"name": "a", "domains": ["A.example", "a.example:80"], "routes": [{"name": "first", "match": {"prefix": "/1"}, "route": {"cluster": "one"}}, {"name": "rest", "match": {"prefix": "/"}, "route": {"cluster": "two", "timeout": "3s"}}]},
  {"name": "b", "domains": ["*.b.example"], "requireTls": "ALL", "routes": [{"match": {"prefix": "/"}, "redirect": {"hostRedirect": "c"}}]},
  {"name": "c", "domains": ["c.*"], "routes": [{"name": "weighted", "match": {"prefix": "/"}, "route": {"weightedClusters": {"clusters": [{"name": "x", "weight": 1}]}}}]},
  {"name": "d", "domains": ["*"], "routes": [{"name": "direct", "match": {"path": "/d"}, "directResponse": {"status": 203}}]}]}`)
	few, err := fromproto.Routes(raw, newParser(t))
	if err != nil {
		t.Fatal(err)
	}
	many, err := fromproto.Routes(among(t, raw), newParser(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, host := range []string{"a.example", "A.EXAMPLE:80", "x.b.example", "b.example", "c.d", "d", "one-of-many"} {
		for _, path := range []string{"/", "/1", "/d"} {
			s := &filter.Stream{}
			s.Request.AddID(header.Method, "GET")
			s.Request.AddID(header.Authority, host)
			s.Request.AddID(header.Path, path)
			got, want := outline(many.Match(s)), outline(few.Match(s))
			if got != want {
				t.Errorf("%s%s: among many %s, among few %s", host, path, got, want)
			}
			seen[got] = true
		}
	}
	if len(seen) < 6 {
		t.Errorf("only %v were seen", seen)
	}
}

func outline(r filter.Route) string {
	x, ok := r.(*route.Route)
	if !ok {
		return "none"
	}
	out := fmt.Sprintf("%q kind %v headers %d", x.RouteName, x.Kind, len(x.RequestMutations))
	if x.Forward != nil {
		out += fmt.Sprintf(" to %s within %v", x.Forward.Cluster, x.Forward.Timeouts)
	}
	if x.VirtualHost != nil {
		out += " of " + x.VirtualHost.Name
	}
	return strings.TrimSpace(out)
}
