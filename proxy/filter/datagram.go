package filter

import "github.com/mecha-mesh/mecha/proxy/netio"

// UDP is a filter of a UDP listener: one value serves one version of a listener.
type UDP interface {
	// Open returns what handles the datagrams of one of the listener's sockets.
	Open(s UDPSocket) UDPReceiver
}

// UDPSocket is a socket of a UDP listener.
type UDPSocket struct {
	*netio.UDPSocket
	Listener string
	// NextID numbers what filters tell apart, as connections are.
	NextID func() uint64
}

// UDPReceiver handles the datagrams of one socket. Its methods are called by one
// goroutine.
type UDPReceiver interface {
	// Receive is given the datagrams that have come at once, lent for the call, and
	// returns those that it leaves to the next filter.
	Receive(batch []netio.Datagram) (rest []netio.Datagram)
	// Close ends what the receiver has begun. Its socket may be closed already.
	Close()
}

// UDPHeir is a receiver that goes on with what its predecessor has begun, when a new
// version of a listener takes the place of another on the same socket.
type UDPHeir interface {
	// Inherit takes over from another receiver, perhaps of another filter, what it can go
	// on with. The rest is ended by Close of the predecessor, which follows.
	Inherit(from UDPReceiver)
}

// UDPSpec is how a UDP listener filter presents itself.
type UDPSpec[C any] struct {
	Name, Type string
	Parse      func(raw []byte, p *Parser) (C, error)
	New        func(c C, env Env) (UDP, error)
}

// UDPFactory is a parsed UDP listener filter configuration, ready to be built.
type UDPFactory func(env Env) (UDP, error)

func (s UDPSpec[C]) describe() entry {
	return entry{name: s.Name, typ: s.Type, parseUDP: func(raw []byte, p *Parser) (UDPFactory, error) {
		c, err := s.Parse(raw, p)
		if err != nil {
			return nil, err
		}
		return func(env Env) (UDP, error) { return s.New(c, env) }, nil
	}}
}

// UDP parses the configuration of a UDP listener filter.
func (p *Parser) UDP(c Any) (UDPFactory, error) {
	e, ok := p.Registry.byType[c.Type]
	if !ok || e.parseUDP == nil {
		return nil, &ErrUnknownType{"UDP listener", c.Type}
	}
	return e.parseUDP(c.Value, p)
}
