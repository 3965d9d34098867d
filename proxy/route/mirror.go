package route

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Mirror is a cluster that a copy of each request goes to (RequestMirrorPolicy).
type Mirror struct {
	Cluster       string // one of these two is set
	ClusterHeader string // lower case
	Share         runtime.FractionSetting
	KeepHost      bool         // disable_shadow_host_suffix_append
	Host          string       // host_rewrite_literal, "" for none
	Mutations     *mutate.List // request_headers_mutations; nil: none
}

// ClusterName returns the cluster for a request, "" if the request does not name one.
func (p *Mirror) ClusterName(m *header.Map) string {
	if p.ClusterHeader != "" {
		return m.Get(p.ClusterHeader)
	}
	return p.Cluster
}

// Finalize makes of a copy of a request head what the mirror sees.
func (p *Mirror) Finalize(m *header.Map, s mutate.Source) {
	host := m.Value(header.Authority)
	switch {
	case p.Host != "":
		m.SetID(header.Authority, p.Host)
	case host == "" || p.KeepHost:
	default:
		end := portStart(host)
		if i := strings.IndexByte(host, ':'); end < 0 || i != end && host[0] != '[' {
			end = len(host)
		}
		m.SetID(header.Authority, m.Concat(host[:end], "-shadow", host[end:]))
	}
	if p.Mutations != nil {
		p.Mutations.Apply(m, s)
	}
}
