package rbac

import (
	"net/netip"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// TestFilterState: an object matches by its text, or by the address that it is.
func TestFilterState(t *testing.T) {
	text := match.Prefix("10.", false)
	in := match.CIDRs{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		name   string
		m      state
		object any
		want   bool
	}{
		{"text", state{key: "k", text: &text}, "10.1.2.3", true},
		{"other text", state{key: "k", text: &text}, "1.2.3.4", false},
		{"no object", state{key: "k", in: in, invert: true}, nil, false},
		{"address", state{key: "k", in: in}, "10.1.2.3", true},
		{"address and port", state{key: "k", in: in}, "10.1.2.3:80", true},
		{"address out of range", state{key: "k", in: in}, "11.1.2.3", false},
		{"inverted", state{key: "k", in: in, invert: true}, "11.1.2.3", true},
		{"no address", state{key: "k", in: in, invert: true}, "x", false},
	} {
		st := &filter.Stream{Conn: &meta.Conn{}}
		conn := &filter.Conn{Meta: &meta.Conn{}}
		if c.object != nil {
			st.State.Set("k", c.object)
			conn.State.Set("k", c.object)
		}
		var s subject
		if s.ofStream(st); c.m.matches(&s) != c.want {
			t.Errorf("%s: a stream matches: %v", c.name, !c.want)
		}
		if s.ofConn(conn); c.m.matches(&s) != c.want {
			t.Errorf("%s: a connection matches: %v", c.name, !c.want)
		}
	}
}

// TestDynamicMetadata: what other filters have found out counts.
func TestDynamicMetadata(t *testing.T) {
	m := &dynamicMetadata{match.Metadata{Namespace: "f", Path: []string{"k"}, Value: match.ValueText(match.Exact("v", false))}}
	st := &filter.Stream{}
	var s subject
	if s.ofStream(st); m.matches(&s) {
		t.Error("nothing matches")
	}
	if st.Metadata.Set("f", "k", "v"); !m.matches(&s) {
		t.Error("the value does not match")
	}
}

// TestPathsNeverMatchConnections: a policy made for requests does not speak of connections.
func TestPathsNeverMatchConnections(t *testing.T) {
	var s subject
	s.ofConn(&filter.Conn{Meta: &meta.Conn{}})
	p, tmpl := &path{match.Prefix("", false)}, &match.Template{}
	for _, m := range []matcher{p, template{tmpl}, &routeMetadata{}, &field{match.HeaderPresent(match.HeaderOptions{Name: "x"}, false)}} {
		if m.matches(&s) {
			t.Errorf("%T matches", m)
		}
	}
}
