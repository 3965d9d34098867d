package extproc

import (
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// mutation sets a field, whose name is in lower case.
type mutation struct {
	name, value string
	append      bool // it does not replace what is there
}

// forwarded is what of a head the service is told.
func (f *Filter) forwarded(m *header.Map) *header.Map {
	if f.Allowed == nil && f.Disallowed == nil {
		return m
	}
	out := &header.Map{}
	for fd := range m.Fields() {
		if (f.Allowed == nil || f.Allowed.Match(fd.Name)) && !f.Disallowed.Match(fd.Name) {
			out.AddKnown(fd.ID, fd.Name, fd.Value)
		}
	}
	return out
}

// change makes the changes of an answer that it may make.
func (f *Filter) change(m *header.Map, a *answer) error {
	for _, name := range a.remove {
		switch {
		case !codec.IsToken(name) && !strings.HasPrefix(name, ":"):
			f.counters.Rejected.Inc()
			return errRemove
		case f.Rules.MayRemove(name):
			m.Del(name)
		default:
			f.counters.Rejected.Inc()
			if f.Rules.IsError {
				return errRemove
			}
		}
	}
	for i := range a.set {
		o := &a.set[i]
		switch {
		case !codec.IsToken(strings.TrimPrefix(o.name, ":")) || !codec.IsFieldValue(o.value):
			f.counters.Rejected.Inc()
			return errInvalid
		case f.Rules.MaySet(o.name) && validPseudo(o.name, o.value):
			o.apply(m)
		default:
			f.counters.Rejected.Inc()
			if f.Rules.IsError {
				return errSet
			}
		}
	}
	return nil
}

// validPseudo reports whether a pseudo-header may have the value; others may have any.
func validPseudo(name, value string) bool {
	switch name {
	case ":status":
		return len(value) == 3 && value[0] >= '2' && value[0] <= '5' && strings.Trim(value, "0123456789") == ""
	case ":scheme":
		return value == "http" || value == "https"
	case ":path":
		return strings.HasPrefix(value, "/") || value == "*"
	case ":method", ":authority":
		return value != ""
	}
	return !strings.HasPrefix(name, ":")
}

func (o *mutation) apply(m *header.Map) {
	if o.append && !strings.HasPrefix(o.name, ":") {
		m.Add(o.name, o.value)
		return
	}
	m.Set(o.name, o.value)
}

// reroute looks the route up again if the answer wants that, or if the configuration does.
func (f *Filter) reroute(s *filter.Stream, a *answer) {
	changed := a.changes
	switch f.Clear {
	case always:
		if changed {
			s.Engine.RefreshRoute()
		}
	case never:
		if a.clearRoute {
			f.counters.ClearDisabled.Inc()
		}
	default:
		switch {
		case a.clearRoute && changed:
			s.Engine.RefreshRoute()
		case a.clearRoute:
			f.counters.ClearIgnored.Inc()
		}
	}
}

// overrideMode makes the mode what the service wants, if it may say so.
func (f *Filter) overrideMode(a *answer) {
	if a.mode == nil || !f.AllowOverride || f.Observe {
		return
	}
	m := *a.mode
	m.Request.Head = f.mode.Request.Head // it is too late for that
	if f.consumed {
		m.Request = f.mode.Request // and for that, too: nobody else has what was told
	}
	if len(f.Overrides) > 0 && !slices.ContainsFunc(f.Overrides, func(o Mode) bool { o.Request.Head = m.Request.Head; return o == m }) {
		return
	}
	f.mode = m
}

// attributesOf are the attributes of a stream that have a value.
func attributesOf(s *filter.Stream, names []string) map[string]any {
	out := map[string]any{}
	for _, name := range names {
		if v := (attributes.Source{Stream: s}).Find(name); v != nil {
			out[name] = v
		}
	}
	return out
}
