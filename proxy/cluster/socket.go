package cluster

import (
	"reflect"

	"github.com/mecha-mesh/mecha/proxy/transport"
)

// matchNamespace is where a host's metadata says which transport socket it wants.
const matchNamespace = "envoy.transport_socket_match"

// socketFor returns the transport socket for a host. What the host's own metadata
// matches wins over what that of its locality does.
func (s *Spec) socketFor(h *Host) transport.Socket {
	for _, labels := range [...]map[string]any{h.Metadata[matchNamespace], h.locality[matchNamespace]} {
		for i := range s.Sockets {
			if matches(s.Sockets[i].Match, labels) {
				return s.Sockets[i].Socket
			}
		}
	}
	if s.Socket == nil {
		return transport.Raw{}
	}
	return s.Socket
}

// matches reports whether labels has everything that match asks for.
func matches(match, labels map[string]any) bool {
	for k, want := range match {
		if got, ok := labels[k]; !ok || !reflect.DeepEqual(got, want) {
			return false
		}
	}
	return true
}

// socketKey is what makes connections of two versions of a cluster different.
func socketKey(s *Spec) string {
	key := "raw"
	if s.Socket != nil {
		key = s.Socket.Key()
	}
	for i := range s.Sockets {
		key += "|" + s.Sockets[i].Name + " " + s.Sockets[i].Socket.Key()
	}
	return key
}

// varies reports whether there is more than one kind of connection to a host.
func (s *Spec) varies() bool {
	_, bound := s.Socket.(transport.Bound)
	return bound || s.PerDownstream || len(s.Sockets) > 0 || s.HTTP.Protocol == AsDownstream
}

// peer describes whom a connection is made to, and for whom.
func (h *Host) peer(a *Attempt) transport.Peer {
	p := transport.Peer{Hostname: h.Hostname, HostTLVs: h.tlvs}
	if a == nil {
		return p
	}
	if a.Conn != nil {
		p.Source, p.Dest, p.From = a.Conn.Remote, a.Conn.Local, a.Conn.UpstreamSource
		if a.Conn.Proxied != nil {
			for _, t := range a.Conn.Proxied.TLVs {
				p.TLVs = append(p.TLVs, transport.TLV(t))
			}
		}
	}
	p.State = a.Shared
	if a.Options != nil {
		p.Options = *a.Options
	}
	return p
}
