package udpproxy

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/codec/capsule"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// Tunnel is tunneling_config: sessions go through streams of an HTTP proxy.
type Tunnel struct {
	Proxy      *accesslog.Format // proxy_host
	ProxyPort  int               // 0: none is said
	Target     *accesslog.Format // target_host
	TargetPort int
	Post       string // the path of a POST in place of CONNECT-UDP
	Headers    *mutate.Headers
	// Capsules says that datagrams travel in capsules (the session filter http_capsule).
	Capsules bool
	Attempts int
	Backoff  backoff.Policy
	// Buffered and BufferBytes bound the datagrams that wait for the tunnel. 0 keeps none.
	Buffered, BufferBytes int
}

// entryOf describes a session to command operators.
type entryOf struct{ *accesslog.Entry }

// LogEntry implements mutate.Source.
func (e entryOf) LogEntry() *accesslog.Entry { return e.Entry }

// request makes the head of the request for a tunnel (RFC 9298, section 3.2 and 3.4). An
// upgrade becomes an extended CONNECT over HTTP/2.
func (t *Tunnel) request(m *header.Map, s *session, secure bool) {
	w := s.w.Load()
	e := w.entry(s, sessionTunnel)
	scheme := "http"
	if secure {
		scheme = "https"
	}
	authority := string(t.Proxy.Append(nil, e))
	if t.ProxyPort != 0 {
		authority += ":" + strconv.Itoa(t.ProxyPort)
	}
	m.SetID(header.Scheme, scheme)
	m.SetID(header.Authority, authority)
	if t.Post != "" {
		m.SetID(header.Method, "POST")
		m.SetID(header.Path, t.Post)
	} else {
		m.SetID(header.Method, "GET")
		m.SetID(header.Path, t.path(e))
		m.SetID(header.Connection, "upgrade")
		m.SetID(header.Upgrade, capsule.Protocol)
		m.Add(capsule.Field, capsule.Announced)
	}
	if t.Headers != nil {
		t.Headers.Apply(m, entryOf{e})
	}
}

// path is the default template of RFC 9298, section 2.
func (t *Tunnel) path(e *accesslog.Entry) string {
	host := url.PathEscape(string(t.Target.Append(nil, e)))
	host = strings.ReplaceAll(host, ":", "%3A")
	return "/.well-known/masque/udp/" + host + "/" + strconv.Itoa(t.TargetPort) + "/"
}

// granted reports whether a response opens the tunnel.
func (t *Tunnel) granted(m *header.Map, code int) bool {
	if t.Post != "" {
		return code >= 200 && code < 300
	}
	return code == 101 && filter.AsksUDP(m) // the 200 of HTTP/2, too
}
