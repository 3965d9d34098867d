package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// udpSize is what we say that we can take over UDP: it fits every path (DNS flag day 2020).
const udpSize = 1232

// maxRecords bounds what is read of one answer.
const maxRecords = 1024

var errTruncated = errors.New("truncated answer")

// exchange asks one server, over TCP if the answer is too long for UDP.
func (r *Resolver) exchange(ctx context.Context, c *config, server string, q dnsmessage.Question) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	id := uint16(rand.Uint32())
	query, err := pack(id, c.udpSize, q)
	if err != nil {
		return Answer{}, err
	}
	if !c.tcp {
		a, err := r.over(ctx, c.udpSize, server, query, id, q)
		if !errors.Is(err, errTruncated) {
			return a, err
		}
	}
	return r.over(ctx, 0, server, query, id, q)
}

func pack(id uint16, size int, q dnsmessage.Question) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 2, 512), dnsmessage.Header{ID: id, RecursionDesired: true})
	var opt dnsmessage.ResourceHeader
	err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAdditionals(),
		opt.SetEDNS0(size, dnsmessage.RCodeSuccess, false), b.OPTResource(opt, dnsmessage.OPTResource{}))
	if err != nil {
		return nil, err
	}
	m, err := b.Finish()
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(m, uint16(len(m)-2)) // for TCP
	return m, nil
}

// over asks over UDP, for answers of up to that size, or over TCP if it is 0. query has
// room for the length in front.
func (r *Resolver) over(ctx context.Context, size int, server string, query []byte, id uint16, q dnsmessage.Question) (Answer, error) {
	network := "udp"
	if size == 0 {
		network = "tcp"
	}
	conn, err := r.dial(ctx, network, server)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing was promised on it
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return Answer{}, err
		}
	}
	if size > 0 {
		query = query[2:]
	}
	if _, err := conn.Write(query); err != nil {
		return Answer{}, err
	}
	for {
		m, err := receive(conn, size)
		if err != nil {
			return Answer{}, err
		}
		a, mine, err := parse(m, id, q)
		if mine || size == 0 {
			return a, err
		}
	}
}

func receive(conn net.Conn, udp int) ([]byte, error) {
	if udp > 0 {
		m := make([]byte, max(udp, 512))
		n, err := conn.Read(m)
		return m[:n], err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, m)
	return m, err
}

// parse reads an answer. It reports whether the message is one to our question at all.
func parse(m []byte, id uint16, q dnsmessage.Question) (a Answer, mine bool, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(m)
	if err != nil {
		return a, false, err
	}
	if h.ID != id || !h.Response {
		return a, false, errors.New("an answer to another question")
	}
	asked, err := p.AllQuestions()
	if err != nil {
		return a, false, err
	}
	if len(asked) != 1 || asked[0].Type != q.Type || !sameName(asked[0].Name, q.Name) {
		return a, false, errors.New("an answer to another question")
	}
	switch {
	case h.RCode == dnsmessage.RCodeNameError:
		return a, true, nil
	case h.RCode != dnsmessage.RCodeSuccess:
		return a, true, fmt.Errorf("the server answers %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	case h.Truncated:
		return a, true, errTruncated
	}
	a, err = addresses(&p, q)
	return a, true, err
}

func sameName(a, b dnsmessage.Name) bool { return strings.EqualFold(a.String(), b.String()) }

// addresses follows the aliases from the question to its addresses. Servers send
// aliases before what they lead to.
func addresses(p *dnsmessage.Parser, q dnsmessage.Question) (Answer, error) {
	var a Answer
	name := q.Name
	for range maxRecords {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return Answer{}, err
		}
		if h.Class != dnsmessage.ClassINET || !sameName(h.Name, name) {
			err = p.SkipAnswer()
		} else {
			name, err = record(p, h, name, q.Type, &a)
		}
		if err != nil {
			return Answer{}, err
		}
	}
	if len(a.V4)+len(a.V6) == 0 {
		a.TTL = 0
	}
	return a, nil
}

// record reads one record of name and returns the name that is looked for from here on.
func record(p *dnsmessage.Parser, h dnsmessage.ResourceHeader, name dnsmessage.Name, want dnsmessage.Type, a *Answer) (dnsmessage.Name, error) {
	switch h.Type {
	case dnsmessage.TypeCNAME:
		r, err := p.CNAMEResource()
		a.age(h.TTL)
		return r.CNAME, err
	case dnsmessage.TypeA:
		r, err := p.AResource()
		if want == h.Type {
			a.V4 = append(a.V4, netip.AddrFrom4(r.A))
			a.age(h.TTL)
		}
		return name, err
	case dnsmessage.TypeAAAA:
		r, err := p.AAAAResource()
		if want == h.Type {
			a.V6 = append(a.V6, netip.AddrFrom16(r.AAAA))
			a.age(h.TTL)
		}
		return name, err
	}
	return name, p.SkipAnswer()
}

// maxTTL is that of RFC 8767, section 4.
const maxTTL = 7 * 24 * time.Hour

// age takes a record's time to live into account. One of 0 counts as the least there
// is to say, so that 0 remains "unknown".
func (a *Answer) age(seconds uint32) {
	ttl := min(max(time.Duration(seconds)*time.Second, time.Nanosecond), maxTTL)
	if a.TTL == 0 || ttl < a.TTL {
		a.TTL = ttl
	}
}
