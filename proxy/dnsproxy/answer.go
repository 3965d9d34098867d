package dnsproxy

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

const (
	plainSize = 512  // of an answer over UDP to a client that does not say more (RFC 1035)
	edns      = 1232 // what we say, and what passes every path unbroken
	maxSize   = 4096 // of an answer over UDP: there is no path to it, it stays on lo
	nameTTL   = 30   // seconds, of a name of the mesh
)

// known reads a message and returns the query, and its answer if no resolver needs to
// be asked. Without query and answer there is nothing to send.
func (s *Server) known(msg []byte, from netip.AddrPort) (q, a *dns.Msg) {
	q = new(dns.Msg)
	if err := q.Unpack(msg); err != nil {
		s.stats.Invalid.Inc()
		// Enough to say that it was not understood; never to an answer, which would be
		// answered in turn.
		if len(msg) < 12 || msg[2]&0x80 != 0 {
			return nil, nil
		}
		bad := new(dns.Msg)
		bad.Id = uint16(msg[0])<<8 | uint16(msg[1])
		return bad, failure(bad, dns.RcodeFormatError)
	}
	switch opt := q.IsEdns0(); {
	case q.Response:
		s.stats.Invalid.Inc()
		return nil, nil
	case q.Opcode != dns.OpcodeQuery:
		s.stats.Invalid.Inc()
		return q, failure(q, dns.RcodeNotImplemented)
	case len(q.Question) != 1:
		s.stats.Invalid.Inc()
		return q, failure(q, dns.RcodeFormatError)
	case opt != nil && opt.Version() != 0:
		return q, failure(q, dns.RcodeBadVers)
	case q.Question[0].Qtype == dns.TypeAXFR || q.Question[0].Qtype == dns.TypeIXFR:
		return q, failure(q, dns.RcodeRefused)
	}
	if _, ok := s.own.Load(from); ok {
		s.stats.Loops.Inc()
		return q, failure(q, dns.RcodeRefused)
	}
	if a := s.local(q.Question[0]); a != nil {
		s.stats.Local.Inc()
		return q, a
	}
	if a := s.cache.get(keyOf(q)); a != nil {
		s.stats.Hits.Inc()
		return q, a
	}
	return q, nil
}

func failure(q *dns.Msg, code int) *dns.Msg {
	a := new(dns.Msg)
	a.Rcode = code
	return a
}

// local answers for a name of the mesh, nil for others.
func (s *Server) local(q dns.Question) *dns.Msg {
	if q.Qclass != dns.ClassINET {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	addrs, ok := s.o.Names.Lookup(name)
	owner := q.Name
	a := new(dns.Msg)
	if !ok {
		// A client with many ndots asks for shop.mesh.SEARCH first. Resolvers would have
		// to say for each search domain that there is no such name, before it gets to
		// shop.mesh. A single label is left to them: db.SEARCH may well exist.
		short := s.withoutSearch(name)
		if addrs, ok = s.o.Names.exact(short); !ok {
			return nil
		}
		owner = dns.Fqdn(short)
		a.Answer = append(a.Answer, &dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: owner})
	}
	// No authority of our own to refuse other types with: an empty answer says that the
	// name exists.
	first := len(a.Answer)
	for _, addr := range addrs {
		switch {
		case addr.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
			a.Answer = append(a.Answer, &dns.A{Hdr: header(owner, dns.TypeA), A: addr.AsSlice()})
		case addr.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
			a.Answer = append(a.Answer, &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: addr.AsSlice()})
		}
	}
	list := a.Answer[first:]
	rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	return a
}

// withoutSearch cuts a search domain off a name; "" if there is none, or if what remains
// is a single label.
func (s *Server) withoutSearch(name string) string {
	for _, d := range s.o.Search {
		if short, ok := strings.CutSuffix(name, "."+d); ok && strings.Contains(short, ".") {
			return short
		}
	}
	return ""
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: nameTTL}
}

// pack makes a the answer to q and returns its bytes, nil if there is nothing to send.
// a is the callee's from then on.
func pack(q, a *dns.Msg, udp bool) []byte {
	if q == nil || a == nil {
		return nil
	}
	a.Id, a.Response, a.Opcode = q.Id, true, q.Opcode
	a.RecursionDesired, a.RecursionAvailable, a.CheckingDisabled = q.RecursionDesired, true, q.CheckingDisabled
	a.Question, a.Compress = q.Question, true
	// EDNS is between two neighbours (RFC 6891): what a resolver said to us is not for
	// the client.
	a.Extra = withoutOPT(a.Extra)
	size := plainSize
	if opt := q.IsEdns0(); opt != nil {
		size = min(max(int(opt.UDPSize()), plainSize), maxSize)
		a.SetEdns0(edns, opt.Do())
	} else if a.Rcode > 15 { // needs EDNS
		a.Rcode = dns.RcodeServerFailure
	}
	if udp {
		a.Truncate(size)
	}
	b, err := a.Pack()
	if err != nil || !udp && len(b) > dns.MaxMsgSize {
		f := failure(q, dns.RcodeServerFailure)
		f.Id, f.Response, f.RecursionDesired, f.RecursionAvailable = q.Id, true, q.RecursionDesired, true
		if b, err = f.Pack(); err != nil {
			return nil
		}
	}
	return b
}

func withoutOPT(rrs []dns.RR) []dns.RR {
	var out []dns.RR
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, rr)
		}
	}
	return out
}
