package dnsfilter

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxAnswers = 8   // addresses in a response, as in Envoy
	plainSize  = 512 // of a response to a client that does not say more (RFC 1035)
	maxSize    = 1232
)

// query is one query and what is known of its response.
type query struct {
	from, to netip.AddrPort
	began    time.Time
	size     int // bytes

	valid    bool
	header   dnsmessage.Header // of the query
	question dnsmessage.Question
	name     string // without the last dot
	room     int    // bytes that the response may have

	code    dnsmessage.RCode
	answers []record
	extra   []record // in the additional section
}

// record is an address or, with a target, a service.
type record struct {
	name             string // "" is the name that was asked for
	ttl              uint32
	addr             netip.Addr
	target           string
	prio, weight, to uint16 // of a service; to is the port
}

// parseQuery reads a message. What it returns is not valid if that is no query for one
// name of the internet.
func parseQuery(msg []byte) query {
	q := query{size: len(msg), room: plainSize}
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil {
		if len(msg) >= 2 { // enough to say that it was not understood
			q.header.ID = uint16(msg[0])<<8 | uint16(msg[1])
		}
		return q
	}
	q.header = h
	all, err := p.AllQuestions()
	if err != nil || h.Response || len(all) != 1 || all[0].Class != dnsmessage.ClassINET {
		return q
	}
	q.question = all[0]
	q.name = strings.TrimSuffix(q.question.Name.String(), ".")
	q.valid = true
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return q
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return q
		}
		if h.Type == dnsmessage.TypeOPT {
			q.room = min(max(int(h.Class), plainSize), maxSize)
			return q
		}
		if p.SkipAdditional() != nil {
			return q
		}
	}
}

// fail makes the response one that says that nothing could be found out.
func (q *query) fail() { q.code, q.answers = dnsmessage.RCodeServerFailure, nil }

// pack makes the response, nil if there can be none.
func (q *query) pack() []byte {
	if q.size < 2 {
		return nil
	}
	h := dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RecursionAvailable: true,
		RecursionDesired: q.header.RecursionDesired, RCode: q.code,
	}
	if !q.valid {
		h.RCode = dnsmessage.RCodeFormatError
		msg, _ := (&dnsmessage.Message{Header: h}).Pack() // there is nothing in it that could fail
		return msg
	}
	for n, extra := len(q.answers), q.extra; n >= 0; n-- {
		h.Truncated = n < len(q.answers)
		if msg := q.try(h, q.answers[:n], extra); msg != nil && len(msg) <= q.room {
			return msg
		}
		if len(extra) > 0 { // the first to go, and nothing that has to be told
			extra, n = nil, n+1
		}
	}
	return nil
}

func (q *query) try(h dnsmessage.Header, answers, extra []record) []byte {
	b := dnsmessage.NewBuilder(make([]byte, 0, plainSize), h)
	b.EnableCompression()
	if b.StartQuestions() != nil || b.Question(q.question) != nil || b.StartAnswers() != nil {
		return nil
	}
	for i := range answers {
		if q.add(&b, &answers[i]) != nil {
			return nil
		}
	}
	if len(extra) > 0 || q.room > plainSize {
		if b.StartAdditionals() != nil {
			return nil
		}
		for i := range extra {
			if q.add(&b, &extra[i]) != nil {
				return nil
			}
		}
		if q.room > plainSize {
			var o dnsmessage.ResourceHeader
			if o.SetEDNS0(maxSize, dnsmessage.RCodeSuccess, false) != nil || b.OPTResource(o, dnsmessage.OPTResource{}) != nil {
				return nil
			}
		}
	}
	msg, err := b.Finish()
	if err != nil {
		return nil
	}
	return msg
}

func (q *query) add(b *dnsmessage.Builder, r *record) (err error) {
	h := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: r.ttl}
	if r.name != "" {
		if h.Name, err = dnsmessage.NewName(r.name + "."); err != nil {
			return err
		}
	}
	switch {
	case r.target != "":
		target, err := dnsmessage.NewName(r.target + ".")
		if err != nil {
			return err
		}
		return b.SRVResource(h, dnsmessage.SRVResource{Priority: r.prio, Weight: r.weight, Port: r.to, Target: target})
	case r.addr.Is4():
		return b.AResource(h, dnsmessage.AResource{A: r.addr.As4()})
	}
	return b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: r.addr.As16()})
}

// AppendValue implements accesslog.Lookup: the commands that only DNS has.
func (q *query) AppendValue(dst []byte, operator, _ string, json bool) ([]byte, bool) {
	switch operator {
	case "ANSWER_COUNT":
		return strconv.AppendInt(dst, int64(len(q.answers)), 10), true
	case "PARSE_STATUS":
		return strconv.AppendBool(dst, q.valid), true
	}
	if !q.valid {
		return dst, false
	}
	switch operator {
	case "QUERY_NAME":
		if json {
			return strconv.AppendQuote(dst, q.name), true
		}
		return append(dst, q.name...), true
	case "QUERY_TYPE":
		return strconv.AppendUint(dst, uint64(q.question.Type), 10), true
	case "QUERY_CLASS":
		return strconv.AppendUint(dst, uint64(q.question.Class), 10), true
	}
	return dst, false
}
