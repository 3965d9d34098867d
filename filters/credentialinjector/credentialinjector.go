// Package credentialinjector is the HTTP filter credential_injector: it puts a credential of
// the proxy's own into requests, so that services can be called by those who know no secret.
// It runs before the router, or behind it for each attempt.
package credentialinjector

import (
	"net/http"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:     "envoy.filters.http.credential_injector",
	Type:     "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
	Upstream: true,
	Parse:    parse,
	New: func(c *Config, env filter.Env) (func() filter.HTTP, error) {
		k := new(counters)
		if env.Parent != nil { // which a filter behind the router does not have
			var release func()
			k, release = stats.SharedUnder[counters](env.Parent, stats.Label{Value: "credential_injector"})
			env.OnRetire(release)
		}
		return func() filter.HTTP { return &Filter{k, c} }, nil
	},
}

// Config is the parsed configuration.
type Config struct {
	Header       string // lower case
	Prefix       string // of the value
	Secret       secret.Source[secret.Generic]
	Overwrite    bool
	AllowWithout bool // allow_request_without_credential
}

// counters is http.<stat_prefix>.credential_injector.*.
type counters struct {
	AlreadyExists stats.Counter `stat:"already_exists" help:"requests that had a credential, which they have kept"`
	Failed        stats.Counter `stat:"failed" help:"requests for which there was no credential"`
	Injected      stats.Counter `stat:"injected" help:"requests that were given the credential"`
}

// Filter has no state of a stream.
type Filter struct {
	*counters
	*Config
}

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (*Filter) Reset() {}

var refusal = &filter.Reply{Code: http.StatusUnauthorized, Body: "Failed to inject credential.", Details: "failed_to_inject_credential"}

// outcome is what has become of a request.
type outcome uint8

const (
	failed outcome = iota
	kept
	injected
)

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	o := f.inject(s)
	switch o {
	case injected:
		f.Injected.Inc()
	case kept:
		f.AlreadyExists.Inc()
	default:
		f.Failed.Inc()
	}
	return f.answer(s, o)
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error { return f.answer(s, f.inject(s)) }

// inject puts the credential into the request. No part of it is told to anybody else.
func (f *Filter) inject(s *filter.Stream) outcome {
	m := &s.Request
	if _, there := m.Find(f.Header); there && !f.Overwrite {
		return kept
	}
	key := f.Secret.Current()
	if key == nil || !usable(key.Secret()) {
		return failed
	}
	m.Set(f.Header, m.Format(func(dst []byte) []byte { return append(append(dst, f.Prefix...), key.Secret()...) }))
	return injected
}

// usable reports whether a credential can be in a header field (RFC 9110 section 5.5).
func usable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return len(b) > 0
}

// answer refuses a request without a credential, unless it may go without.
func (f *Filter) answer(s *filter.Stream, o outcome) error {
	switch {
	case o == injected:
		s.Decide("puts its credential into the request, in", f.Header)
	case o == kept:
		s.Decide("leaves the credential that the request has, in", f.Header)
	case f.AllowWithout:
		s.Decide("has no credential, and lets the request go without (allow_request_without_credential)", "")
	default:
		return refusal
	}
	return nil
}
