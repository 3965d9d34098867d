package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/mecha-mesh/mecha/proxy/admin"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/why"
)

var _ admin.Forecaster = (*console)(nil)

// Forecast implements admin.Forecaster.
func (c *console) Forecast(w admin.WhatIf) (*why.Exchange, error) {
	q, err := questionOf(w)
	if err != nil {
		return nil, err
	}
	return c.p.server.Listeners.Forecast(q)
}

// questionOf makes of a request in words one that the engine understands.
func questionOf(w admin.WhatIf) (q l4.Question, err error) {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil:
		return q, err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return q, fmt.Errorf("url: %q is not http://HOST/PATH or https://HOST/PATH", w.URL)
	case !httpguts.ValidHeaderFieldName(w.Method): // both are tokens
		return q, fmt.Errorf("method: %q is none", w.Method)
	}
	q = l4.Question{Listener: w.Listener, Head: &header.Map{}}
	m := q.Head
	m.AddID(header.Method, w.Method)
	m.AddID(header.Scheme, u.Scheme)
	m.AddID(header.Authority, u.Host)
	m.AddID(header.Path, u.RequestURI())
	for _, h := range w.Headers {
		name, value, ok := strings.Cut(h, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return q, fmt.Errorf("header: %q is not \"name: value\"", h)
		}
		m.Add(name, value)
	}
	q.Conn.TransportProtocol = "raw_buffer"
	if u.Scheme == "https" {
		q.Conn.TransportProtocol, q.Conn.ServerName, q.Conn.TLS = "tls", strings.ToLower(u.Hostname()), &meta.TLS{}
	}
	from := w.From
	if from == "" {
		from = "127.0.0.1"
	}
	if q.Conn.Remote, err = addressOf("from", from); err != nil {
		return q, err
	}
	q.Conn.Direct = q.Conn.Remote
	if w.To != "" {
		q.Conn.Local, err = addressOf("to", w.To)
	}
	return q, err
}

// addressOf reads IP:PORT, or IP.
func addressOf(field, text string) (meta.Addr, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return meta.Addr{AddrPort: ap}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return meta.Addr{}, fmt.Errorf("%s: %q is not an IP address with or without a port", field, text)
	}
	return meta.Addr{AddrPort: netip.AddrPortFrom(a, 0)}, nil
}
