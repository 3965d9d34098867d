package h2

import (
	"errors"
	"time"
)

// ErrSlowHead is what Accept returns when a header section was begun and not completed in
// ServerOptions.HeadTimeout. Nothing else can come on the connection meanwhile (RFC 9113
// 4.3), so that is what ends.
var ErrSlowHead = errors.New("h2: header section takes too long")

// headBegun reports whether a part of a header section has come and the rest has not. The
// goroutine that reads calls it when it has handled all whole frames.
func (c *conn) headBegun() bool {
	if c.inBlock {
		return true
	}
	if c.in.Len() < frameHeaderLen {
		return false
	}
	p, _ := c.in.Peek(frameHeaderLen)
	return ParseFrameHeader(p).Type == FrameHeaders
}

// watchHead begins, or ends, to count the time of a header section.
func (s *ServerConn) watchHead() error {
	if s.opt.HeadTimeout <= 0 || s.headBy.IsZero() && s.in.Len() == 0 && !s.inBlock {
		return nil
	}
	switch begun := s.preface && s.headBegun(); {
	case !begun:
		s.setHeadBy(time.Time{})
	case s.headBy.IsZero():
		s.setHeadBy(time.Now().Add(s.opt.HeadTimeout))
	case !time.Now().Before(s.headBy):
		_ = s.end(&connError{EnhanceYourCalm, ErrSlowHead.Error(), detailsUnknown})
		return ErrSlowHead
	}
	return nil
}

func (s *ServerConn) setHeadBy(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.headBy = t
	s.arm(t)
}

// headTick wakes Accept when a header section has taken too long, and returns when that
// will be. The lock is held.
func (s *ServerConn) headTick(now time.Time) time.Time {
	if !s.headBy.IsZero() && !now.Before(s.headBy) {
		s.wake()
		return time.Time{}
	}
	return s.headBy
}
