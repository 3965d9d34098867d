package transport

import "github.com/mecha-mesh/mecha/proxy/secret"

// InUse returns what a socket that does TLS has at present. It reports false for others, and
// while a secret has not come: then there is no context.
func InUse(s Socket) (secret.InUse, bool) {
	switch s := s.(type) {
	case *DownstreamTLS:
		if s.TicketKeys != nil && s.TicketKeys.Current() == nil {
			return secret.InUse{}, false
		}
		return s.inUse()
	case *UpstreamTLS:
		return s.inUse()
	case *ProxyProtocol:
		return InUse(s.Inner)
	case *Internal:
		return InUse(s.Socket)
	}
	return secret.InUse{}, false
}

func (t *TLS) inUse() (secret.InUse, bool) {
	s, err := t.read()
	if err != nil {
		return secret.InUse{}, false
	}
	return secret.InUse{Certificates: s.certs, Validation: s.validation}, true
}
