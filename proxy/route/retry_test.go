package route

import (
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

func fields(list ...string) *header.Map {
	m := &header.Map{}
	for i := 0; i < len(list); i += 2 {
		m.Add(list[i], list[i+1])
	}
	return m
}

// TestWait: the first header that can be used says when to come back; what is in the past
// or too far away is no answer.
func TestWait(t *testing.T) {
	now := time.Unix(1000, 0)
	p := RetryPolicy{ResetMax: 5 * time.Minute, Reset: []ResetHeader{{Name: "x-at", Unix: true}, {Name: "retry-after"}}}
	for name, tc := range map[string]struct {
		m    *header.Map
		want time.Duration
		ok   bool
	}{
		"none":     {fields(), 0, false},
		"seconds":  {fields("retry-after", "3"), 3 * time.Second, true},
		"unix":     {fields("x-at", "1010"), 10 * time.Second, true},
		"first":    {fields("retry-after", "3", "x-at", "1010"), 10 * time.Second, true},
		"past":     {fields("retry-after", "3", "x-at", "999"), 3 * time.Second, true},
		"too long": {fields("retry-after", "301"), 0, false},
		"no time":  {fields("retry-after", "Sat, 28 Nov 2026 22:00:00 GMT"), 0, false},
		"huge":     {fields("retry-after", "99999999999999999999"), 0, false},
	} {
		if d, ok := p.Wait(tc.m, now); d != tc.want || ok != tc.ok {
			t.Errorf("%s: %v %v, want %v %v", name, d, ok, tc.want, tc.ok)
		}
	}
}

// TestMerge: the headers of a request add to a policy without changing it, and are taken
// out of the request.
func TestMerge(t *testing.T) {
	p := &RetryPolicy{On: On5xx, Retries: 2, Codes: []int{503}}
	m := fields("x-envoy-retry-on", "reset,unavailable", "x-envoy-retry-grpc-on", "cancelled,5xx", "x-envoy-max-retries", "7",
		"x-envoy-retriable-status-codes", "404", "x-envoy-retriable-header-names", "X-A, ,x-b")
	own := p.Merge(m)
	if own.On != On5xx|OnReset|OnCancelled || own.Retries != 7 || len(own.Codes) != 2 || len(own.HeaderNames) != 2 || own.HeaderNames[0] != "x-a" {
		t.Errorf("merged: %+v", own)
	}
	if p.On != On5xx || p.Retries != 2 || len(p.Codes) != 1 || m.Len() != 0 {
		t.Errorf("the policy became %+v, the request %d fields", p, m.Len())
	}
	if (*RetryPolicy)(nil).Merge(fields("x-envoy-max-retries", "3")) != nil {
		t.Error("a number alone makes a policy")
	}
	if got := p.Merge(fields()); got != p {
		t.Error("nothing to merge, and yet a copy")
	}
}

func TestGRPCTimeout(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond,
		"1u": time.Millisecond, "1000001n": 2 * time.Millisecond, "99999999H": 1 << 62,
		"": -1, "5": -1, "S": -1, "123456789S": -1, "-1S": -1, "1s": -1, "1.5S": -1,
	} {
		d, ok := GRPCTimeout(fields("grpc-timeout", in))
		if ok != (want >= 0) || ok && d != want {
			t.Errorf("%q: %v %v", in, d, ok)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0m", 1500 * time.Millisecond: "1500m", 100_000_000 * time.Millisecond: "100000S", 1 << 62: "76861433M",
	} {
		m := fields()
		if SetGRPCTimeout(m, d); m.Get("grpc-timeout") != want {
			t.Errorf("%v: %q, want %q", d, m.Get("grpc-timeout"), want)
		}
	}
}

func TestParseLocation(t *testing.T) {
	for in, want := range map[string]Location{
		"http://a":               {"http", "a", "/"},
		"HTTPS://a:8443/b?c#d":   {"https", "a:8443", "/b?c"},
		"http://a?q":             {"http", "a", "/?q"},
		"http://[::1]:80/x":      {"http", "[::1]:80", "/x"},
		"/b":                     {},
		"//a/b":                  {},
		"ftp://a/b":              {},
		"http:///b":              {},
		"http://me:secret@a/b":   {},
		"http://a/b c":           {},
		"http://a b/":            {},
		"javascript://a/alert()": {},
	} {
		got, ok := ParseLocation(in)
		if ok != (want.Host != "") || ok && got != want {
			t.Errorf("%q: %+v %v", in, got, ok)
		}
	}
}

func FuzzParseLocation(f *testing.F) {
	f.Add("http://a/b?c#d")
	f.Fuzz(func(t *testing.T, v string) {
		if l, ok := ParseLocation(v); ok && (l.Host == "" || l.Path == "" || l.Path[0] != '/') {
			t.Errorf("%q: %+v", v, l)
		}
	})
}

// TestMirrorHost: a mirror can tell from the host that it is one.
func TestMirrorHost(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a-shadow", "a:80": "a-shadow:80", "[::1]": "[::1]-shadow", "[::1]:80": "[::1]-shadow:80", "::1": "::1-shadow",
	} {
		m := fields(":authority", in)
		if (&Mirror{}).Finalize(m, nil); m.Get(":authority") != want {
			t.Errorf("%q: %q, want %q", in, m.Get(":authority"), want)
		}
	}
}

// TestStreamDuration: a deadline that is over, by the client or by the offset, is none
// that does not exist.
func TestStreamDuration(t *testing.T) {
	for _, c := range []struct {
		timeouts Timeouts
		in, out  string
		want     time.Duration
		set      bool
	}{
		{Timeouts{}, "5S", "5S", 0, false},
		{Timeouts{GRPCHeader: true, GRPCHeaderOffset: 10 * time.Second}, "5S", "0m", spent, true},
		{Timeouts{GRPCHeader: true}, "0m", "0m", spent, true},
		{Timeouts{GRPCHeader: true}, "x", "7000m", 7 * time.Second, true},
		{Timeouts{DurationSet: true}, "5S", "", 0, true},
	} {
		r := &Route{Forward: &ForwardAction{Timeouts: c.timeouts}}
		s := &filter.Stream{}
		s.Request.Add("content-type", "application/grpc")
		s.Request.Add("grpc-timeout", c.in)
		d, set := r.StreamDuration(s, 7*time.Second)
		if got := s.Request.Get("grpc-timeout"); d != c.want || set != c.set || got != c.out {
			t.Errorf("%+v: %v %v %q, want %v %v %q", c.timeouts, d, set, got, c.want, c.set, c.out)
		}
	}
}
