package fromproto_test

import (
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/header"
)

func hostFromJSON(t *testing.T, text string) []byte {
	t.Helper()
	return message.Raw(t, &routev3.VirtualHost{}, text)
}

// TestOnDemand: virtual hosts come one by one, inherit from their table, and one that is
// refused changes nothing.
func TestOnDemand(t *testing.T) {
	p := newParser(t)
	o, err := fromproto.RoutesOnDemand(fromJSON(t, `{"name": "t", "vhds": {"config_source": {"ads": {}}},
		"response_headers_to_add": [{"header": {"key": "x", "value": "y"}}],
		"virtual_hosts": [{"name": "a", "domains": ["a"], "routes": [{"name": "fixed", "match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}`), p)
	if err != nil {
		t.Fatal(err)
	}
	find := func(host string) (route, missing string) {
		t.Helper()
		table, err := o.Table()
		if err != nil {
			t.Fatal(err)
		}
		s := &filter.Stream{}
		s.Request.AddID(header.Authority, host)
		s.Request.AddID(header.Path, "/")
		if r := table.Match(s); r != nil {
			route = r.Name()
		}
		return route, table.Missing(s)
	}
	if r, m := find("a"); r != "fixed" || m != "" {
		t.Errorf("a: route %q, missing %q", r, m)
	}
	if r, m := find("B.example"); r != "" || m != "b.example" {
		t.Errorf("b: route %q, missing %q", r, m)
	}
	b := `{"name": "b", "domains": ["b.example"], "routes": [{"name": "later", "match": {"prefix": "/"}, "direct_response": {"status": 200}}]}`
	if err := o.Set("t/b.example", hostFromJSON(t, b), p); err != nil {
		t.Fatal(err)
	}
	if r, m := find("B.example"); r != "later" || m != "" {
		t.Errorf("b: route %q, missing %q", r, m)
	}
	err = o.Set("t/c", hostFromJSON(t, strings.Replace(b, `"name": "b"`, `"name": "c"`, 1)), p)
	if err == nil || !strings.Contains(err.Error(), "domains: is a domain of an earlier virtual host") {
		t.Errorf("a domain twice: %v", err)
	}
	if r, _ := find("b.example"); r != "later" {
		t.Errorf("b: route %q", r)
	}
	a := strings.NewReplacer(`"b"`, `"a"`, "b.example", "a", "later", "replaced").Replace(b)
	if err := o.Set("t/a", hostFromJSON(t, a), p); err != nil {
		t.Fatal(err)
	}
	if r, _ := find("a"); r != "replaced" {
		t.Errorf("a: route %q", r)
	}
	o.Remove("t/a")
	o.Remove("t/b.example")
	if r, _ := find("a"); r != "fixed" {
		t.Errorf("a: route %q", r)
	}
	if r, m := find("b.example"); r != "" || m == "" {
		t.Errorf("b: route %q, missing %q", r, m)
	}
	if o, err := fromproto.RoutesOnDemand(fromJSON(t, `{"name": "t"}`), p); o != nil || err != nil {
		t.Errorf("without vhds: %v, %v", o, err)
	}
}
