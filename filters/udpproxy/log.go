package udpproxy

import (
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

const (
	sessionEnd      = accesslog.UDPSessionEnd
	sessionPeriodic = accesslog.UDPPeriodic
	sessionTunnel   = accesslog.UDPTunnelUpstreamConnected
)

// The names under which Envoy keeps what only UDP has: dynamic metadata.
const (
	sessionNamespace = "udp.proxy.session"
	proxyNamespace   = "udp.proxy.proxy"
)

// log writes an entry about a session.
func (w *worker) log(s *session, t accesslog.Type) {
	if w.logs != nil {
		w.logs.Log(w.entry(s, t))
	}
}

// entry describes a session.
func (w *worker) entry(s *session, t accesslog.Type) *accesslog.Entry {
	st := meta.Stream{
		Start: s.meta.Start, End: time.Since(s.meta.Start), Flags: meta.Flag(s.flags.Load()),
		BytesReceived: s.rx.bytes.Load(), BytesSent: s.tx.bytes.Load(),
		UpstreamSent: s.sent.Load(), UpstreamReceived: s.got.Load(),
	}
	switch {
	case s.tun != nil:
		s.tun.describe(&st)
	case s.up != nil:
		st.UpstreamLocal, st.UpstreamHost, st.UpstreamHostname = s.up.Addr(), s.host.Addr, s.host.Hostname
	}
	return &accesslog.Entry{Conn: &s.meta, Stream: &st, Type: t, Lookup: fields{sessionNamespace, []field{
		{"bytes_received", st.BytesReceived, ""},
		{"bytes_sent", st.BytesSent, ""},
		{"cluster_name", 0, s.name},
		{"datagrams_received", s.rx.datagrams.Load(), ""},
		{"datagrams_sent", s.tx.datagrams.Load(), ""},
		{"errors_sent", s.failed.Load(), ""},
	}}}
}

// logSelf writes proxy_access_log.
func (p *proxy) logSelf() {
	if p.own == nil {
		return
	}
	t := &p.sum
	t.mu.Lock()
	defer t.mu.Unlock()
	st := meta.Stream{Start: p.start, End: time.Since(p.start), BytesReceived: t.rx.bytes, BytesSent: t.tx.bytes}
	p.own.Log(&accesslog.Entry{Conn: &meta.Conn{}, Stream: &st, Lookup: fields{proxyNamespace, []field{
		{"bytes_received", t.rx.bytes, ""},
		{"bytes_sent", t.tx.bytes, ""},
		{"datagrams_received", t.rx.datagrams, ""},
		{"datagrams_sent", t.tx.datagrams, ""},
		{"errors_received", 0, ""},
		{"errors_sent", t.failed, ""},
		{"idle_timeout", t.idle.Load(), ""},
		{"no_route", t.noRoute.Load(), ""},
		{"session_total", t.sessions.Load(), ""},
	}}})
}

// field is a number, or a text.
type field struct {
	name string
	n    int64
	text string
}

// fields are the dynamic metadata of one namespace.
type fields struct {
	namespace string
	list      []field
}

// AppendValue implements accesslog.Lookup: all of a namespace, or one field of it.
func (f fields) AppendValue(dst []byte, operator, arguments string, json bool) ([]byte, bool) {
	ns, name, one := strings.Cut(arguments, ":")
	if operator != "DYNAMIC_METADATA" || ns != f.namespace {
		return dst, false
	}
	if !one {
		dst = append(dst, '{')
		for i := range f.list {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(append(append(dst, '"'), f.list[i].name...), `":`...)
			dst = f.list[i].append(dst, true)
		}
		return append(dst, '}'), true
	}
	for i := range f.list {
		if f.list[i].name == name {
			return f.list[i].append(dst, json), true
		}
	}
	return dst, false
}

func (f *field) append(dst []byte, json bool) []byte {
	switch {
	case f.text == "":
		return strconv.AppendInt(dst, f.n, 10)
	case json:
		return strconv.AppendQuote(dst, f.text)
	}
	return append(dst, f.text...)
}
