package router

import (
	"errors"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// note tells whoever asks later what was decided. Texts are lent as long as the stream lives.
func note(s *filter.Stream, by, what, of string) {
	s.Why.Note(why.Decision{By: by, What: what, Of: of, At: s.Elapsed()})
}

// notePick tells which host was chosen, or why none was.
func notePick(s *filter.Stream, host *cluster.Host, err error) {
	d := why.Decision{By: why.Balancer, What: "picks", At: s.Elapsed()}
	if err != nil {
		d.What, d.Because = "finds no host", err.Error()
	} else {
		d.Of, d.Peer = host.Hostname, &host.Addr
	}
	s.Why.Note(d)
}

// noteConnection tells what connection an attempt has got, and where the time went that it
// waited for it. A new one may have been begun for somebody else.
func (f *Filter) noteConnection(s *filter.Stream, host *cluster.Host, err error) {
	d, took := why.Decision{By: why.Connection, Peer: &host.Addr, At: s.Elapsed()}, &s.Why.Pool
	wait := s.Meta.PoolReady
	switch {
	case err != nil:
		d.What, d.Because = "fails", err.Error()
		if _, refused := errors.AsType[*cluster.ConnectError](err); refused {
			took.Connect += wait
		} else {
			took.Queue += wait
		}
	case f.conn.Used():
		d.What = "is used again"
		took.Queue += wait
	default:
		d.What = "is new"
		connect, handshake := f.conn.Making()
		handshake = min(handshake, wait)
		connect = min(connect, wait-handshake)
		took.TLS += handshake
		took.Connect += connect
		took.Queue += wait - handshake - connect
	}
	s.Why.Note(d)
}

// noteRetry tells whether a failed attempt is followed by another one, and why.
func noteRetry(s *filter.Stream, failed error, what, because string) {
	s.Why.Note(why.Decision{By: why.Retry, What: "attempt failed", N: s.Meta.Attempts, Because: failed.Error(), At: s.Elapsed()})
	s.Why.Note(why.Decision{By: why.Retry, What: what, Because: because, At: s.Elapsed()})
}
