// Package basicauth is the HTTP filter basic_auth: it serves those who know a name and its
// password (RFC 7617).
package basicauth

import (
	"crypto/sha1" //nolint:gosec // the format of the configuration
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       wellKnown,
	Type:       "envoy.extensions.filters.http.basic_auth.v3.BasicAuth",
	RouteType:  "envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

const wellKnown = "envoy.filters.http.basic_auth"

// Config is the parsed configuration of the filter; of a route it has Users and Realm only.
type Config struct {
	Users        map[string]*user // by name
	Realm        string           // "" is the URL of the request
	Header       string           // where the credentials are
	Forward      string           // where upstream is told the name, "" for nowhere
	AllowMissing bool
	Emit         bool // emit_dynamic_metadata
}

// user is a name and the SHA-1 of its password.
type user struct {
	name     string
	boxed    any // name, for metadata
	password digest
}

type digest = [sha1.Size]byte

// nobody has no password: no digest of one is all zeros.
var nobody user

// counters is http.<stat_prefix>.basic_auth.*.
type counters struct {
	Allowed stats.Counter `stat:"allowed" help:"requests with a name and its password"`
	Denied  stats.Counter `stat:"denied" help:"requests that were refused"`
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	n, release := stats.SharedUnder[counters](env.Parent, stats.Label{Value: "basic_auth"})
	env.OnRetire(release)
	name := env.Name
	if name == "" {
		name = wellKnown
	}
	return func() filter.HTTP { return &Filter{counters: n, config: c, slot: env.Slot, name: name} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*counters
	config *Config
	slot   filter.Slot
	name   string
	buf    [maxCredentials]byte // scratch: as they are
	coded  [maxCredentials/3*4 + 4]byte
}

// maxCredentials is how long name and password may be together.
const maxCredentials = 1024

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	clear(f.buf[:])
	clear(f.coded[:])
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	users, realm := f.config.Users, f.config.Realm
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		users = own.Users
		if own.Realm != "" {
			realm = own.Realm
		}
	}
	value, there := s.Request.Find(f.config.Header)
	token, basic := strings.CutPrefix(value, "Basic ")
	switch {
	case !basic && f.config.AllowMissing:
		return nil
	case !there:
		return f.deny(realm, "Missing username and password.", "no_credential_for_basic_auth")
	case !basic:
		return f.deny(realm, "Expected 'Basic' authentication scheme.", "invalid_scheme_for_basic_auth")
	}
	name, password, ok := f.decode(token)
	if !ok {
		return f.deny(realm, "Invalid basic credential format.", "invalid_format_for_basic_auth")
	}
	// The password is hashed also for a name that there is not: the time tells nothing.
	who, known := users[string(name)]
	if !known {
		who = &nobody
	}
	got := sha1.Sum(password) //nolint:gosec // as above
	if subtle.ConstantTimeCompare(got[:], who.password[:]) != 1 || !known {
		return f.deny(realm, "Invalid username/password combination.", "invalid_credential_for_basic_auth")
	}
	f.Allowed.Inc()
	if f.config.Forward != "" {
		s.Request.Set(f.config.Forward, who.name)
	}
	if f.config.Emit {
		s.Metadata.Set(f.name, "username", who.boxed)
	}
	return nil
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error {
	uncounted := *f
	uncounted.counters = &counters{}
	return uncounted.OnRequestHeaders(s, true)
}

// decode returns name and password, which are in f.buf.
func (f *Filter) decode(token string) (name, password []byte, ok bool) {
	token = strings.TrimRight(token, "=")
	if base64.RawStdEncoding.DecodedLen(len(token)) > len(f.buf) {
		return nil, nil, false
	}
	n, err := base64.RawStdEncoding.Decode(f.buf[:], f.coded[:copy(f.coded[:], token)])
	if err != nil {
		return nil, nil, false
	}
	for i, c := range f.buf[:n] {
		if c == ':' {
			return f.buf[:i], f.buf[i+1 : n], true
		}
	}
	return nil, nil, false
}

// maxURL is how much of its URL a client is told.
const maxURL = 256

func (f *Filter) deny(realm, body, details string) *filter.Reply {
	f.Denied.Inc()
	return &filter.Reply{
		Code: http.StatusUnauthorized, Body: "User authentication failed. " + body, Details: details,
		Modify: func(s *filter.Stream) {
			text := realm
			if text == "" {
				text = url(&s.Request)
			}
			s.Response.Set("www-authenticate", s.Response.Concat(`Basic realm="`, text, `"`))
		},
	}
}

// url is that of a request.
func url(m *header.Map) string {
	text := m.Concat(m.Get(":scheme"), "://", m.Value(header.Authority), m.Value(header.Path))
	return text[:min(len(text), maxURL)]
}
