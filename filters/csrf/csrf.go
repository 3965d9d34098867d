// Package csrf is the HTTP filter csrf: requests that change something come from pages of
// the same origin, or of one that is named; others are refused.
package csrf

import (
	"net/http"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

const typ = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy"

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Policy]{
	Name:      "envoy.filters.http.csrf",
	Type:      typ,
	RouteType: typ,
	Parse:     parse,
	New: func(p *Policy, env filter.Env) (func() filter.HTTP, error) {
		c, release := stats.SharedUnder[counters](env.Parent, stats.Label{Value: "csrf"})
		env.OnRetire(release)
		return func() filter.HTTP { return &Filter{c, p, env.Slot} }, nil
	},
}

// Policy is the parsed configuration.
type Policy struct {
	Enabled, Shadow runtime.FractionValue
	Origins         match.Strings // additional_origins
}

// counters is http.<stat_prefix>.csrf.*.
type counters struct {
	Missing stats.Counter `stat:"missing_source_origin" help:"requests that do not say where they come from"`
	Invalid stats.Counter `stat:"request_invalid" help:"requests from another origin"`
	Valid   stats.Counter `stat:"request_valid" help:"requests from the same origin, or from one that is named"`
}

// Filter has no state of a stream.
type Filter struct {
	*counters
	policy *Policy
	slot   filter.Slot
}

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (*Filter) Reset() {}

var refusal = &filter.Reply{Code: http.StatusForbidden, Body: "Invalid origin", Details: "csrf_origin_mismatch"}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	switch s.Request.Value(header.Method) {
	case "POST", "PUT", "DELETE", "PATCH":
	default:
		return nil
	}
	p := f.policy
	if own, ok := filter.Override[*Policy](s, f.slot); ok {
		p = own
	}
	enabled := p.Enabled.Match(s.Random())
	if !enabled && !p.Shadow.Match(s.Random()) {
		return nil
	}
	switch source := sourceOf(&s.Request); {
	case source == "":
		f.Missing.Inc()
	case p.allows(source, hostAndPort(s.Request.Value(header.Authority))):
		f.Valid.Inc()
		return nil
	default:
		f.Invalid.Inc()
	}
	if !enabled {
		return nil
	}
	return refusal
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error {
	uncounted := *f
	uncounted.counters = &counters{}
	return uncounted.OnRequestHeaders(s, true)
}

func (p *Policy) allows(source, target string) bool {
	return source == target || p.Origins.Match(source)
}

// sourceOf is the host of the page that a request comes from, "" if it does not say. The
// origin null is that of pages that have none.
func sourceOf(m *header.Map) string {
	if host := hostAndPort(m.Get("origin")); host != "" && host != "null" {
		return host
	}
	return hostAndPort(m.Get("referer"))
}

// hostAndPort is that part of a URL, and what is no URL itself.
func hostAndPort(url string) string {
	for _, scheme := range []string{"http://", "https://"} {
		if rest, ok := strings.CutPrefix(url, scheme); ok {
			if i := strings.IndexAny(rest, "/?#"); i >= 0 {
				rest = rest[:i]
			}
			return rest
		}
	}
	return url
}
