package filter

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

type tuple struct{}

func (tuple) String() string { return `a"b` }
func (tuple) Field(name string) (string, bool) {
	if name == "n" {
		return "v", true
	}
	return "", false
}

type object struct{ tuple }

func (object) MarshalJSON() ([]byte, error) { return []byte(`{"n":"v"}`), nil }

// aboutRoute is a route with metadata.
type aboutRoute struct{ Route }

func (aboutRoute) Configured() (route, host meta.Fields) {
	return meta.Fields{"ns": {"of": "route"}}, meta.Fields{"ns": {"of": "host"}}
}

// What operators about metadata and filter state print, in texts and in JSON.
func TestLookup(t *testing.T) {
	s := &Stream{Session: &Conn{}}
	s.Metadata.Set("com.test", "key", "val<ue")
	s.Metadata.Set("com.test", "n", 5.0)
	s.Metadata.Set("com.test", "deep", map[string]any{"b": true, "null": nil, "list": []any{1.0, "x"}})
	s.Meta.HostMetadata = map[string]map[string]any{"envoy.lb": {"canary": "yes"}}
	s.Meta.ClusterMetadata = func() meta.Fields { return meta.Fields{"ns": {"of": "cluster"}} }
	s.Route = aboutRoute{}
	s.Conn = &meta.Conn{Configured: &meta.Configured{Listener: func() meta.Fields { return meta.Fields{"ns": {"of": "listener"}} }}}
	s.State.Set("text", `a"b`)
	s.State.Set("tuple", tuple{})
	s.State.Set("object", object{})
	s.Session.State.Set("conn", "of the connection")
	for _, c := range []struct{ format, text, json string }{
		{"%DYNAMIC_METADATA(com.test:key)%", "val<ue", `"val<ue"`},
		{"%DYNAMIC_METADATA(com.test:key):3%", "val", `"val"`},
		{"%DYNAMIC_METADATA(com.test:deep:list):3%", "[1,", `[1,"x"]`},
		{"%DYNAMIC_METADATA(com.test:n)%", "5", "5"},
		{"%DYNAMIC_METADATA(com.test:deep:b)%", "true", "true"},
		{"%DYNAMIC_METADATA(com.test:deep:list)%", `[1,"x"]`, `[1,"x"]`},
		{"%DYNAMIC_METADATA(com.test:deep:null)%", "-", "null"},
		{"%DYNAMIC_METADATA(com.test:deep:b:x)%", "-", "null"},
		{"%DYNAMIC_METADATA(com.test:nope)%", "-", "null"},
		{"%DYNAMIC_METADATA(nope)%", "-", "null"},
		{"%METADATA(DYNAMIC:com.test:key)%", "val<ue", `"val<ue"`},
		{"%METADATA(ROUTE:com.test:key)%", "-", "null"},
		{"%UPSTREAM_METADATA(envoy.lb:canary)%", "yes", `"yes"`},
		{"%METADATA(ROUTE:ns:of)%", "route", `"route"`},
		{"%METADATA(VIRTUAL_HOST:ns:of)%", "host", `"host"`},
		{"%METADATA(CLUSTER:ns:of)%", "cluster", `"cluster"`},
		{"%CLUSTER_METADATA(ns)%", `{"of":"cluster"}`, `{"of":"cluster"}`},
		{"%METADATA(LISTENER:ns:of)%", "listener", `"listener"`},
		{"%METADATA(LISTENER_FILTER_CHAIN:ns:of)%", "-", "null"},
		{`%UPSTREAM_METADATA(["envoy.lb", "canary"])%`, "yes", `"yes"`},
		{"%METADATA(UPSTREAM_HOST:envoy.lb:canary)%", "yes", `"yes"`},
		{"%FILTER_STATE(text:PLAIN)%", `a"b`, `"a\"b"`},
		{"%FILTER_STATE(text)%", `"a\"b"`, `"a\"b"`},
		{"%FILTER_STATE(text:TYPED)%", `"a\"b"`, `"a\"b"`},
		{"%FILTER_STATE(tuple:FIELD:n)%", "v", `"v"`},
		{"%FILTER_STATE(tuple:FIELD:x)%", "-", "null"},
		{"%FILTER_STATE(text:FIELD:n)%", "-", "null"},
		{"%FILTER_STATE(object)%", `{"n":"v"}`, `{"n":"v"}`},
		{"%FILTER_STATE(object:PLAIN)%", `a"b`, `"a\"b"`},
		{"%FILTER_STATE(conn:PLAIN)%", "of the connection", `"of the connection"`},
		{"%FILTER_STATE(nope)%", "-", "null"},
	} {
		f, err := accesslog.Compile(c.format)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(f.Append(nil, s.LogEntry())); got != c.text {
			t.Errorf("%s: %s, want %s", c.format, got, c.text)
		}
		j, err := accesslog.CompileJSON(map[string]any{"x": c.format}, accesslog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(j.Append(nil, s.LogEntry())), `{"x":`+c.json+"}\n"; got != want {
			t.Errorf("%s: %s, want %s", c.format, got, want)
		}
	}
	f, err := accesslog.Compile("%DYNAMIC_METADATA(com.test:key)% %FILTER_STATE(text:PLAIN)%")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() { buf = f.Append(buf[:0], s.LogEntry()) }); n != 0 {
		t.Errorf("%v allocations for texts", n)
	}
}
