package accesslog

import (
	"math/rand/v2"
	"time"

	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Overridable is a filter whose numbers the runtime may override, or which holds such
// filters.
type Overridable interface {
	Filter
	// On returns the filter to use with r, which may be nil.
	On(r *runtime.Runtime) Filter
}

// on returns f as it works with r.
func on(f Filter, r *runtime.Runtime) Filter {
	if o, ok := f.(Overridable); ok {
		return o.On(r)
	}
	return f
}

func allOn(list []Filter, r *runtime.Runtime) []Filter {
	out := make([]Filter, len(list))
	for i, f := range list {
		out[i] = on(f, r)
	}
	return out
}

// On implements Overridable.
func (f And) On(r *runtime.Runtime) Filter { return And(allOn(f, r)) }

// On implements Overridable.
func (f Or) On(r *runtime.Runtime) Filter { return Or(allOn(f, r)) }

// On implements Overridable.
func (f Not) On(r *runtime.Runtime) Filter { return Not{on(f.Filter, r)} }

// StatusCodeSetting is StatusCode with a runtime key.
type StatusCodeSetting struct {
	Op    Compare
	Value runtime.UintSetting
}

// Match implements Filter with the default.
func (f StatusCodeSetting) Match(e *Entry) bool {
	return StatusCode{f.Op, int(f.Value.Default)}.Match(e)
}

// On implements Overridable.
func (f StatusCodeSetting) On(r *runtime.Runtime) Filter { return statusCodeOn{f.Op, f.Value.On(r)} }

type statusCodeOn struct {
	op    Compare
	value runtime.UintValue
}

func (f statusCodeOn) Match(e *Entry) bool { return StatusCode{f.op, int(f.value.Get())}.Match(e) }

// DurationSetting is Duration with a runtime key; the number is of milliseconds.
type DurationSetting struct {
	Op    Compare
	Value runtime.UintSetting
}

// Match implements Filter with the default.
func (f DurationSetting) Match(e *Entry) bool {
	return Duration{f.Op, time.Duration(f.Value.Default) * time.Millisecond}.Match(e)
}

// On implements Overridable.
func (f DurationSetting) On(r *runtime.Runtime) Filter { return durationOn{f.Op, f.Value.On(r)} }

type durationOn struct {
	op    Compare
	value runtime.UintValue
}

func (f durationOn) Match(e *Entry) bool {
	return Duration{f.op, time.Duration(f.value.Get()) * time.Millisecond}.Match(e)
}

// FractionSetting is Fraction with a runtime key.
type FractionSetting struct {
	Value       runtime.FractionSetting
	Independent bool
}

// Match implements Filter with the default.
func (f FractionSetting) Match(e *Entry) bool {
	return fractionOn{f.Value.On(nil), f.Independent}.Match(e)
}

// On implements Overridable.
func (f FractionSetting) On(r *runtime.Runtime) Filter {
	return fractionOn{f.Value.On(r), f.Independent}
}

type fractionOn struct {
	value       runtime.FractionValue
	independent bool
}

func (f fractionOn) Match(e *Entry) bool {
	id := e.id()
	if f.independent || id == "" {
		return f.value.Match(rand.Uint64())
	}
	return f.value.Match(hash(id))
}

// Metadata passes entries by their dynamic metadata (metadata_filter).
type Metadata struct {
	Matcher *match.Metadata // nil passes what Absent says
	Absent  bool            // passes entries without the key (match_if_key_not_found)
}

// Match implements Filter.
func (f Metadata) Match(e *Entry) bool {
	if f.Matcher == nil {
		return f.Absent
	}
	md := e.Metadata
	if md == nil {
		md = &meta.Metadata{}
	}
	if v, there := md.Find(f.Matcher.Namespace, f.Matcher.Path...); !there || v == nil {
		return f.Absent
	}
	return f.Matcher.Match(md)
}
