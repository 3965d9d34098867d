package dnsproxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// tryTimeout is for one attempt while there is another to make.
	tryTimeout = 1250 * time.Millisecond
	rounds     = 2
	// badFor is how long a resolver that did not answer is asked after the others.
	badFor = 10 * time.Second
)

var errForeign = errors.New("dnsproxy: not the answer to this query")

// lookup asks the resolvers and remembers what they say. Over tcp it asks over TCP, too:
// the client has seen a truncated answer, or expects one.
func (s *Server) lookup(ctx context.Context, q *dns.Msg, tcp bool) *dns.Msg {
	s.stats.Misses.Inc()
	s.stats.Lookups.Inc()
	defer s.stats.Lookups.Dec()
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	var last *dns.Msg
	servers := s.order()
	for round := range rounds {
		for i, server := range servers {
			a, err := s.try(ctx, server, q, tcp, round == rounds-1 && i == len(servers)-1)
			switch {
			case err != nil:
				s.failed.Store(server, time.Now().Add(badFor))
			case a.Rcode == dns.RcodeSuccess || a.Rcode == dns.RcodeNameError:
				s.failed.Delete(server)
				s.cache.put(keyOf(q), a)
				return a
			default: // its trouble need not be the next one's
				last = a
			}
			if ctx.Err() != nil {
				break
			}
		}
		if last != nil || ctx.Err() != nil {
			break
		}
	}
	if last != nil {
		return last
	}
	s.stats.Failures.Inc()
	return failure(q, dns.RcodeServerFailure)
}

// try is one attempt. The last has all the time that is left.
func (s *Server) try(ctx context.Context, server netip.AddrPort, q *dns.Msg, tcp, last bool) (*dns.Msg, error) {
	if !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, min(tryTimeout, s.o.Timeout/2))
		defer cancel()
	}
	return s.ask(ctx, server, q, tcp)
}

// order returns the resolvers, those that failed a moment ago last.
func (s *Server) order() []netip.AddrPort {
	out := slices.Clone(s.o.Upstream)
	now := time.Now()
	bad := func(a netip.AddrPort) int {
		if until, ok := s.failed.Load(a); ok && now.Before(until.(time.Time)) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int { return bad(a) - bad(b) })
	return out
}

// ask asks one resolver.
func (s *Server) ask(ctx context.Context, server netip.AddrPort, q *dns.Msg, tcp bool) (*dns.Msg, error) {
	up := new(dns.Msg)
	up.Question = q.Question
	up.RecursionDesired, up.CheckingDisabled, up.AuthenticatedData = q.RecursionDesired, q.CheckingDisabled, q.AuthenticatedData
	opt := q.IsEdns0()
	if opt != nil { // without its options: cookies and the like are between neighbours
		up.SetEdns0(edns, opt.Do())
	}
	a, err := s.over(ctx, server, up, tcp)
	if err == nil && opt != nil && a.Rcode == dns.RcodeFormatError {
		up.Extra = nil // a server from before EDNS
		a, err = s.over(ctx, server, up, tcp)
	}
	return a, err
}

// over asks over TCP or UDP. Where nobody listens for TCP, an answer over UDP that is
// whole will do.
func (s *Server) over(ctx context.Context, server netip.AddrPort, up *dns.Msg, tcp bool) (*dns.Msg, error) {
	if !tcp {
		return s.exchange(ctx, "udp", server, up)
	}
	a, err := s.exchange(ctx, "tcp", server, up)
	if err == nil || ctx.Err() != nil {
		return a, err
	}
	a, udpErr := s.exchange(ctx, "udp", server, up)
	if udpErr != nil || a.Truncated {
		return nil, err
	}
	return a, nil
}

// exchange sends one query from a port of its own, with an id of its own, and waits for
// its answer; everything else that comes is not for us (RFC 5452).
func (s *Server) exchange(ctx context.Context, network string, server netip.AddrPort, up *dns.Msg) (a *dns.Msg, err error) {
	s.stats.Asked.Inc()
	defer func() {
		var timeout net.Error
		switch {
		case err == nil || s.ctx.Err() != nil:
		case errors.As(err, &timeout) && timeout.Timeout():
			s.stats.Timeouts.Inc()
		default:
			s.stats.Errors.Inc()
		}
	}()
	d := net.Dialer{Control: s.control}
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing is pending
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(s.ctx, func() { _ = c.Close() })()
	if from, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
		from = unmapped(from)
		s.own.Store(from, true)
		defer s.own.Delete(from)
	}
	up.Id = uint16(rand.Uint32())
	b, err := up.Pack()
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		if err := writeMessage(c, b); err != nil {
			return nil, err
		}
		msg, err := readMessage(c)
		if err != nil {
			return nil, err
		}
		return s.answerTo(up, msg)
	}
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	b = make([]byte, maxSize)
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil, err
		}
		// A forged answer must not end the wait for the true one.
		if a, err := s.answerTo(up, b[:n]); err == nil {
			return a, nil
		}
	}
}

// answerTo reads a message if it answers up.
func (s *Server) answerTo(up *dns.Msg, msg []byte) (*dns.Msg, error) {
	a := new(dns.Msg)
	err := a.Unpack(msg)
	if err != nil || !answers(up, a) {
		s.stats.Foreign.Inc()
		return nil, errors.Join(errForeign, err)
	}
	return a, nil
}

func answers(up, a *dns.Msg) bool {
	if !a.Response || a.Id != up.Id || a.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(a.Question) == 0 { // what a server has not understood it may not repeat
		return a.Rcode == dns.RcodeFormatError || a.Rcode == dns.RcodeNotImplemented
	}
	q, p := up.Question[0], a.Question[0]
	return len(a.Question) == 1 && strings.EqualFold(q.Name, p.Name) && q.Qtype == p.Qtype && q.Qclass == p.Qclass
}
