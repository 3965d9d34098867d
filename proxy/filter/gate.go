package filter

import "github.com/mecha-mesh/mecha/proxy/buffer"

// AtOpen makes network filters that decide about a connection when it opens: an error of
// decide closes it.
func AtOpen(decide func(c *Conn) error) func() Network {
	g := opening{decide}
	return func() Network { return g }
}

// AtBytes makes network filters that decide when the first bytes arrive, since other filters
// may find out something by them, or, with each, whenever some do.
func AtBytes(decide func(c *Conn) error, each bool) func() Network {
	return func() Network { return &arriving{decide: decide, each: each} }
}

// opening has no state of one connection.
type opening struct{ decide func(*Conn) error }

// Reset implements Network.
func (opening) Reset() {}

// OnConn implements ConnOpener.
func (o opening) OnConn(c *Conn) error { return o.decide(c) }

type arriving struct {
	decide  func(*Conn) error
	each    bool
	decided bool
}

// Reset implements Network.
func (a *arriving) Reset() { a.decided = false }

// OnRead implements ConnReader.
func (a *arriving) OnRead(c *Conn, _ *buffer.Buf, _ bool) error {
	if a.decided && !a.each {
		return nil
	}
	a.decided = true
	return a.decide(c)
}
