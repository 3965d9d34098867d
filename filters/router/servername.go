package router

import (
	"net/netip"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// nameServer works out which name a TLS connection for a request asks for, and which names
// the host's certificate must have: what filters say in filter state, or else what the
// cluster wants to be made of the request (upstream_http_protocol_options), as the route
// has rewritten it.
func (f *Filter) nameServer(s *filter.Stream) {
	o := &f.options
	o.FromState(s)
	autoNames(o, &f.cluster.Spec().HTTP.Auto, &s.Request)
	if o.ServerName != "" || o.SANs != nil || o.ALPN != nil {
		f.at.Options = o
	}
}

// autoNames takes from a request what filters have not said.
func autoNames(o *transport.Options, auto *cluster.AutoNames, m *header.Map) {
	if !auto.SNI && !auto.SAN {
		return
	}
	name, ip := hostOf(autoName(auto, m))
	name = strings.Clone(name)
	if auto.SNI && !ip && o.ServerName == "" {
		o.ServerName = name
	}
	if auto.SAN && o.SANs == nil {
		o.SANs = []string{name}
	}
}

// autoName is the field that the name is taken from: the authority unless another one is
// configured and there.
func autoName(auto *cluster.AutoNames, m *header.Map) string {
	if auto.Header != "" {
		if v := m.Get(auto.Header); v != "" {
			return v
		}
	}
	return m.Get(":authority")
}

// hostOf returns the host of an authority, without brackets, and whether it is an IP
// address.
func hostOf(authority string) (host string, ip bool) {
	key, ok := dnscache.ParseKey(authority, 0)
	host = key.Host
	if !ok { // a port that is none: Envoy takes all of it for the name
		host = authority
	}
	_, err := netip.ParseAddr(host)
	return host, err == nil
}
