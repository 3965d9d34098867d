package redisproxy

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// await waits for the reply to a command that blocks, for as long as the client does: should
// the client go, the host is told at once by the end of its connection, or it would give an
// element to nobody.
func (s *session) await() error {
	l := s.parts[0].l
	l.expect(time.Time{})
	stop := s.watchClient(l)
	err := s.replies()
	return errors.Join(stop(), err)
}

// watchClient ends the link when the client goes. What the client sends meanwhile is kept.
func (s *session) watchClient(l *link) (stop func() error) {
	if !s.conn.Engine.Plain() {
		return func() error { return nil }
	}
	var early buffer.Buf
	var gone error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for early.Len() < maxBatch {
			if _, err := s.sock.ReadBuf(&early); err != nil {
				if !errors.Is(err, netio.ErrInterrupted) {
					gone = err
					l.up.Cut()
				}
				return
			}
		}
	}()
	return func() error {
		s.sock.Interrupt()
		<-ended
		if gone == nil {
			s.sock.Resume()
		}
		s.in.MoveAll(&early)
		return gone
	}
}
