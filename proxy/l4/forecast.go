package l4

import (
	"fmt"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// HTTPForecaster is a terminal filter that can tell what would become of a request without
// anybody sending it (http_connection_manager).
type HTTPForecaster interface {
	Forecast(over *meta.Conn, head *header.Map) *why.Exchange
}

// Question is a request that nobody has sent, and the connection it might come over.
type Question struct {
	// Listener is the name of the listener; "" takes the one that has the address Conn.Local,
	// or, if that is not known either, the only one.
	Listener string
	Conn     meta.Conn // Local may be unknown
	Head     *header.Map
}

// Forecast tells what would be decided about a request. Its error says what of the question
// leads nowhere. Network filters before the connection manager are not asked.
func (m *Manager) Forecast(q Question) (*why.Exchange, error) {
	l, err := m.asked(&q)
	if err != nil {
		return nil, err
	}
	cfg, c := l.cfg.Load(), &filter.Conn{Meta: &q.Conn}
	q.Conn.Listener = l.name
	i := cfg.find(c)
	if i == none {
		return nil, fmt.Errorf("no filter chain of listener %q matches the connection, which would be closed", l.name)
	}
	ch := cfg.chains[i]
	if err := ch.build(); err != nil {
		return nil, err
	}
	q.Conn.FilterChain, q.Conn.Configured = ch.spec.Name, ch.about
	if ch.incomplete() {
		return nil, errNoConfig
	}
	set, err := ch.take()
	if err != nil {
		return nil, err
	}
	defer ch.give(set)
	f, ok := set.term.(HTTPForecaster)
	if !ok {
		return nil, fmt.Errorf("filter chain %q of listener %q does not end in an HTTP connection manager", ch.spec.Name, l.name)
	}
	return f.Forecast(&q.Conn, q.Head), nil
}

// asked finds the listener of a question, and completes what is not known of the connection.
func (m *Manager) asked(q *Question) (*Listener, error) {
	all := m.Listeners()
	var names []string
	for _, l := range all {
		if l.name == q.Listener {
			q.arriveAt(l)
			return l, nil
		}
		names = append(names, l.name)
	}
	switch {
	case q.Listener != "":
		return nil, fmt.Errorf("there is no listener %q; there are %s", q.Listener, strings.Join(names, ", "))
	case q.Conn.Local.Known():
		if l := m.routing.Load().find(q.Conn.Local.AddrPort); l != nil {
			return l, nil
		}
		return nil, fmt.Errorf("no listener has the address %s; the listeners are %s", q.Conn.Local, strings.Join(names, ", "))
	case len(all) == 1:
		q.arriveAt(all[0])
		return all[0], nil
	}
	return nil, fmt.Errorf("there are %d listeners, so say which one is meant: %s", len(all), strings.Join(names, ", "))
}

// arriveAt makes the connection one to the listener's first address, unless it is for another.
func (q *Question) arriveAt(l *Listener) {
	if s := l.Spec(); !q.Conn.Local.Known() && len(s.Addresses) > 0 {
		q.Conn.Local = s.Addresses[0].Addr
	}
}
