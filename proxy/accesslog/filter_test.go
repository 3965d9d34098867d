package accesslog

import (
	"fmt"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

type hasHeader string

func (h hasHeader) Match(m *header.Map) bool { _, ok := m.Find(string(h)); return ok }

func TestFilters(t *testing.T) {
	grpc := &Entry{Request: fields("content-type", "application/grpc"), Trailers: fields("grpc-status", "14"), Stream: &meta.Stream{Code: 200}}
	check := request()
	check.HealthCheck, check.Traceable = true, true
	running := &Entry{Stream: &meta.Stream{Start: time.Unix(100, 0)}, Time: time.Unix(101, 0)}
	yes, no := And{}, Or{}
	for i, c := range []struct {
		f    Filter
		e    *Entry
		want bool
	}{
		{StatusCode{Equal, 200}, request(), true},
		{StatusCode{AtLeast, 500}, request(), false},
		{StatusCode{AtLeast, 200}, request(), true},
		{StatusCode{AtMost, 199}, request(), false},
		{StatusCode{NotEqual, 404}, request(), true},
		{StatusCode{Equal, 0}, &Entry{}, true},
		{Duration{AtLeast, 20 * time.Millisecond}, request(), true},
		{Duration{AtLeast, 21 * time.Millisecond}, request(), false},
		{Duration{AtLeast, time.Second}, running, true},
		{Duration{AtLeast, 0}, &Entry{}, false},
		{NotHealthCheck{}, request(), true},
		{NotHealthCheck{}, check, false},
		{Traceable{}, check, true},
		{Traceable{}, request(), false},
		{Header{hasHeader("x-esc")}, request(), true},
		{Header{hasHeader("x-nope")}, request(), false},
		{Header{hasHeader("x-esc")}, session(), false},
		{ResponseFlag{}, request(), false},
		{ResponseFlag{}, session(), true},
		{ResponseFlag{meta.NoRouteFound}, session(), false},
		{ResponseFlag{meta.NoRouteFound | meta.UpstreamConnectionFailure}, session(), true},
		{GRPCStatus{Statuses: 1 << 14}, grpc, true},
		{GRPCStatus{Statuses: 1 << 14, Exclude: true}, grpc, false},
		{GRPCStatus{Statuses: 1 << 2}, request(), true},
		{LogType{Types: 1 << DownstreamEnd}, request(), true},
		{LogType{Types: 1 << DownstreamEnd}, session(), false},
		{LogType{Types: 1 << DownstreamEnd, Exclude: true}, session(), true},
		{yes, request(), true},
		{no, request(), false},
		{And{yes, no}, request(), false},
		{Or{no, yes}, request(), true},
		{Not{no}, request(), true},
		{Fraction{100, 100, false}, request(), true},
		{Fraction{0, 100, true}, request(), false},
	} {
		if got := c.f.Match(c.e); got != c.want {
			t.Errorf("%d: %T%+v: %v, want %v", i, c.f, c.f, got, c.want)
		}
	}
}

// The same request must be chosen by every proxy it passes, and about the wanted
// share of all requests.
func TestFractionFollowsTheRequestID(t *testing.T) {
	f := Fraction{Numerator: 2500, Denominator: 10000}
	chosen := 0
	for i := range 4000 {
		e := &Entry{StreamID: fmt.Sprintf("c5f4a0ef-ac43-4d24-896b-%012x", i)}
		first := f.Match(e)
		if f.Match(e) != first {
			t.Fatal("the same request was chosen once and not again")
		}
		if first {
			chosen++
		}
	}
	if chosen < 900 || chosen > 1100 {
		t.Errorf("%d of 4000 chosen, want about 1000", chosen)
	}
}

// The runtime overrides what a filter compares with, also inside of others.
func TestFiltersWithRuntime(t *testing.T) {
	r := runtime.New([]runtime.Layer{{Name: "x", Values: map[string]string{"code": "404", "ms": "21", "share": "0"}}}, nil)
	status := StatusCodeSetting{AtLeast, runtime.UintSetting{Key: "code", Default: 200}}
	slow := DurationSetting{AtLeast, runtime.UintSetting{Key: "ms", Default: 20}}
	share := FractionSetting{Value: runtime.FractionSetting{Key: "share", Default: runtime.Fraction{Numerator: 1, Denominator: 1}}}
	for i, f := range []Filter{status, slow, share, And{status}, Or{status, slow}, And{Or{share}}} {
		if !f.Match(request()) || !on(f, nil).Match(request()) {
			t.Errorf("%d: %#v does not match by default", i, f)
		}
		if on(f, r).Match(request()) {
			t.Errorf("%d: %#v matches against the runtime", i, f)
		}
	}
	if !on(Not{status}, r).Match(request()) {
		t.Error("Not is not overridden")
	}
}

func TestMetadataFilter(t *testing.T) {
	hint := &match.Metadata{Namespace: "envoy.common", Path: []string{"hint"}, Value: match.ValueBool(true)}
	var with, without, null meta.Metadata
	with.Set("envoy.common", "hint", true)
	without.Set("envoy.common", "hint", false)
	null.Set("envoy.common", "hint", nil)
	for i, c := range []struct {
		f    Metadata
		md   *meta.Metadata
		want bool
	}{
		{Metadata{Matcher: hint}, &with, true},
		{Metadata{Matcher: hint}, &without, false},
		{Metadata{Matcher: hint}, nil, false},
		{Metadata{Matcher: hint, Absent: true}, nil, true},
		{Metadata{Matcher: hint, Absent: true}, &null, true},
		{Metadata{Matcher: hint, Absent: true}, &without, false},
		{Metadata{Absent: true}, &without, true},
		{Metadata{}, &with, false},
	} {
		if got := c.f.Match(&Entry{Metadata: c.md}); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}
