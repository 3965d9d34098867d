// Package apikeyauth is the HTTP filter api_key_auth: it serves those who send a key that
// it knows.
package apikeyauth

import (
	"crypto/sha256"
	"net/http"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.api_key_auth",
	Type:       "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
	RouteType:  "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New: func(c *Config, env filter.Env) (func() filter.HTTP, error) {
		n, release := stats.SharedUnder[counters](env.Parent, stats.Label{Value: "api_key_auth"})
		env.OnRetire(release)
		return func() filter.HTTP { return &Filter{counters: n, config: c, slot: env.Slot} }, nil
	},
}

// Config is the parsed configuration. Of a route, credentials and sources are the
// filter's where they are empty.
type Config struct {
	Credentials *credentials
	Sources     []Source
	Forward     *Forwarding
	Allowed     map[string]bool // clients that a route is for; nil: all
}

// Source is where keys are: one of its fields is set.
type Source struct{ Header, Query, Cookie string }

// Forwarding is what upstream is told.
type Forwarding struct {
	Header string // that names the client, "" for none
	Hide   bool   // not the key
}

// credentials are clients by the digests of their keys. The keys themselves are not kept,
// and how long a look-up takes tells nothing of them: their digests depend on a secret of
// the process.
type credentials struct {
	salt    [sha256.Size]byte
	clients map[digest]string
}

type digest = [sha256.Size]byte

// maxKey is how long a key may be.
const maxKey = 4 << 10

// digest is that of a key. scratch is overwritten.
func (c *credentials) digest(scratch []byte, key string) digest {
	scratch = append(append(scratch[:0], c.salt[:]...), key...)
	d := sha256.Sum256(scratch)
	clear(scratch)
	return d
}

// counters is http.<stat_prefix>.api_key_auth.*.
type counters struct {
	Allowed      stats.Counter `stat:"allowed" help:"requests with the key of a client"`
	Unauthorized stats.Counter `stat:"unauthorized" help:"requests without a key, or with an unknown one"`
	Forbidden    stats.Counter `stat:"forbidden" help:"requests of clients that the route is not for"`
}

// Filter serves one stream at a time.
type Filter struct {
	*counters
	config  *Config
	slot    filter.Slot
	scratch [sha256.Size + maxKey]byte
}

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (*Filter) Reset() {}

// The answers to those who are not served.
var (
	noKeys      = unauthorized("missing_credentials")
	noKey       = unauthorized("missing_api_key")
	unknownKey  = unauthorized("unknown_api_key")
	notThisOne  = &filter.Reply{Code: http.StatusForbidden, Body: "Client is forbidden.", Details: "client_not_allowed"}
	nowhereToGo = unauthorized("missing_key_sources")
)

func unauthorized(details string) *filter.Reply {
	return &filter.Reply{Code: http.StatusUnauthorized, Body: "Client authentication failed.", Details: details}
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	known, sources, forward := f.config.Credentials, f.config.Sources, f.config.Forward
	var allowed map[string]bool
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		if own.Credentials != nil {
			known = own.Credentials
		}
		if len(own.Sources) > 0 {
			sources = own.Sources
		}
		forward, allowed = own.Forward, own.Allowed // also none, as in Envoy
	}
	client, reply := f.authenticate(&s.Request, known, sources)
	if reply != nil {
		f.Unauthorized.Inc()
		return reply
	}
	if allowed != nil && !allowed[client] {
		f.Forbidden.Inc()
		return notThisOne
	}
	if forward != nil {
		if forward.Hide {
			for i := range sources {
				sources[i].hide(&s.Request)
			}
		}
		if forward.Header != "" {
			s.Request.Set(forward.Header, client)
		}
	}
	f.Allowed.Inc()
	s.Decide("has the key of", client)
	return nil
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error {
	uncounted := *f
	uncounted.counters = &counters{}
	return uncounted.OnRequestHeaders(s, true)
}

// authenticate is the client whose key a request has.
func (f *Filter) authenticate(m *header.Map, known *credentials, sources []Source) (string, *filter.Reply) {
	switch {
	case len(sources) == 0:
		return "", nowhereToGo
	case known == nil:
		return "", noKeys
	}
	key := ""
	for i := range sources {
		if key = sources[i].find(m); key != "" {
			break
		}
	}
	if key == "" {
		return "", noKey
	}
	if len(key) > maxKey {
		return "", unknownKey
	}
	client, ok := known.clients[known.digest(f.scratch[:], key)]
	if !ok {
		return "", unknownKey
	}
	return client, nil
}

// find is the key of a request, "" for none.
func (src *Source) find(m *header.Map) string {
	switch {
	case src.Header != "":
		return strings.TrimPrefix(m.Get(src.Header), "Bearer ")
	case src.Query != "":
		return queryValue(m.Value(header.Path), src.Query)
	}
	return match.CookieValue(m, src.Cookie)
}

// hide takes away where a key may be.
func (src *Source) hide(m *header.Map) {
	switch {
	case src.Header != "":
		m.Del(src.Header)
	case src.Query != "":
		hideQuery(m, src.Query)
	default:
		hideCookie(m, src.Cookie)
	}
}
