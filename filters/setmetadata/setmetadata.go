// Package setmetadata is the HTTP filter set_metadata: it puts fixed values into the
// dynamic metadata of requests.
package setmetadata

import (
	"maps"
	"slices"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:  "envoy.filters.http.set_metadata",
	Type:  "envoy.extensions.filters.http.set_metadata.v3.Config",
	Parse: parse,
	New: func(c *Config, env filter.Env) (func() filter.HTTP, error) {
		n, release := stats.SharedUnder[counters](env.Parent, stats.Label{Value: "set_metadata"})
		env.OnRetire(release)
		return func() filter.HTTP { return &Filter{n, c} }, nil
	},
}

// Config is the parsed configuration.
type Config struct{ Entries []Entry }

// Entry is values for a namespace.
type Entry struct {
	Namespace string
	Values    map[string]any
	Merge     bool // allow_overwrite: also where the namespace has values
}

// counters is http.<stat_prefix>.set_metadata.*.
type counters struct {
	Denied stats.Counter `stat:"overwrite_denied" help:"entries left out because their namespace had values"`
}

// Filter has no state of a stream.
type Filter struct {
	*counters
	config *Config
}

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (*Filter) Reset() {}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	f.Denied.Add(f.set(s))
	return nil
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error {
	f.set(s)
	return nil
}

// set adds the metadata, and returns how many entries it has left out.
func (f *Filter) set(s *filter.Stream) (denied uint64) {
	for i := range f.config.Entries {
		e := &f.config.Entries[i]
		old := s.Metadata.Namespace(e.Namespace)
		if len(old) > 0 && !e.Merge {
			denied++
			continue
		}
		for key, v := range e.Values {
			if was, there := old[key]; there {
				v = merged(was, v)
			}
			s.Metadata.Set(e.Namespace, key, v)
		}
	}
	return denied
}

// merged is v over old: objects key by key, lists one after the other. Neither is changed.
func merged(old, v any) any {
	switch v := v.(type) {
	case map[string]any:
		if was, ok := old.(map[string]any); ok {
			out := maps.Clone(was)
			for key, one := range v {
				if before, there := was[key]; there {
					one = merged(before, one)
				}
				out[key] = one
			}
			return out
		}
	case []any:
		if was, ok := old.([]any); ok {
			return slices.Concat(was, v)
		}
	}
	return v
}
