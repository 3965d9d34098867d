package h2

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// keepalive is the state of connection_keepalive. The connection's lock guards it.
type keepalive struct {
	sendAt time.Time // when the next PING is due; zero: none is
	out    bool      // it was sent and is not answered
	deadAt time.Time // when its answer is overdue; zero: never
	heard  time.Time // when something was last received, as far as that matters
}

// listens reports whether it matters when something was received.
func (o *Keepalive) listens() bool { return o.Timeout > 0 || o.Idle > 0 }

// start schedules the first PING. The lock is held.
func (k *keepalive) start(c *conn, now time.Time) {
	k.heard = now
	k.schedule(c, now)
	c.arm(k.sendAt)
}

func (k *keepalive) schedule(c *conn, now time.Time) {
	o := &c.opt.Keepalive
	k.sendAt = time.Time{}
	if o.Interval <= 0 {
		return
	}
	jitter := float64(DefaultKeepaliveJitter)
	if o.Jitter != nil {
		jitter = *o.Jitter
	}
	d := o.Interval
	if most := int64(float64(d) * jitter / 100); most > 0 {
		d += time.Duration(rand.Int64N(most))
	}
	k.sendAt = now.Add(d)
}

// ping sends a PING, unless one is out. The lock is held.
func (k *keepalive) ping(c *conn, now time.Time) {
	if k.out {
		return
	}
	k.out = true
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], uint64(now.UnixMilli()))
	c.put(FrameHeader{Type: FramePing}, p[:], false)
	if d := c.opt.Keepalive.Timeout; d > 0 {
		k.deadAt = now.Add(d)
	}
	k.sendAt = time.Time{}
}

// pong takes an answer.
func (k *keepalive) pong(c *conn, now time.Time) {
	if !k.out {
		return
	}
	k.out, k.deadAt = false, time.Time{}
	k.schedule(c, now)
	c.arm(k.sendAt)
}

// tick does what is due and returns when to come again. Any frame that came since the
// PING left extends the wait for its answer, which may be behind others.
func (k *keepalive) tick(c *conn, now time.Time) time.Time {
	if !k.deadAt.IsZero() && !now.Before(k.deadAt) {
		if again := k.heard.Add(c.opt.Keepalive.Timeout); again.After(now) {
			k.deadAt = again
		} else {
			c.stats.KeepaliveTimeout.Inc()
			c.failLocked(errKeepalive)
			c.sock.Cut()
			return time.Time{}
		}
	}
	if !k.sendAt.IsZero() && !now.Before(k.sendAt) {
		k.ping(c, now)
		go c.flushAlone() // this is a timer's goroutine
	}
	switch {
	case !k.deadAt.IsZero():
		return k.deadAt
	}
	return k.sendAt
}

func (c *conn) flushAlone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}
