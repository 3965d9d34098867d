package redisproxy

import (
	"math/bits"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// SCAN over several hosts: the cursor that clients see has the host in its highest bits and
// the host's own cursor below. Redis' cursors are as wide as the number of buckets, so that
// these bits are free. A client sees the end when the last host has come to its end.

// hostBits is how many bits of a cursor tell the host.
const hostBits = 12

// cursor is what a part of SCAN needs to know of the host it asks.
type cursor struct {
	host, hosts int
}

// scanNext asks the host that the cursor points to.
func (s *session) scanNext() {
	if len(s.args) < 2 {
		s.s.Invalid.Inc()
		s.sayError("ERR wrong number of arguments for 'SCAN' command")
		return
	}
	all := s.hosts()
	at, err := strconv.ParseUint(string(s.args[1]), 10, 64)
	i := int(at >> (64 - hostBits))
	if err != nil || i >= len(all) && i > 0 {
		s.sayError("ERR invalid cursor")
		return
	}
	first := len(s.parts)
	if len(all) > 0 {
		args := append([][]byte(nil), s.args...)
		args[1] = strconv.AppendUint(nil, at<<hostBits>>hostBits, 10)
		s.askHost(all[i], args)
		s.parts[first].cursor = cursor{i, min(len(all), 1<<hostBits)}
	}
	how := scanned
	if len(s.parts) == first || s.parts[first].l == nil {
		how = asIs
	}
	s.finish(first, how)
}

// scanReply gives the cursor of a SCAN reply its host. It reports whether the reply is none of
// an error.
func (s *session) scanReply(p *part, o *op) bool {
	var r reply
	s.whole(&r, p, o)
	defer r.release()
	raw := r.body.Bytes()
	args, count, ok := resp.Head(raw, nil, 1)
	if r.kind != resp.Array || !ok || count != 2 {
		s.out.MoveAll(&r.body)
		return !r.failed()
	}
	at, err := strconv.ParseUint(string(args[0]), 10, 64)
	host := uint64(p.host)
	switch {
	case err != nil || bits.Len64(at) > 64-hostBits:
		resp.AppendLine(&s.out, resp.Error, "ERR the host's cursor leaves no room for the number of the host")
		return false
	case at == 0 && p.host+1 < p.hosts:
		host++
	case at == 0:
		host = 0
	}
	rest := raw[len("*2\r\n"):]
	rest = rest[len(args[0])+len("$\r\n\r\n")+len(strconv.Itoa(len(args[0]))):]
	resp.AppendHeader(&s.out, resp.Array, 2)
	resp.AppendBulk(&s.out, strconv.AppendUint(nil, host<<(64-hostBits)|at, 10))
	s.out.Append(rest)
	return true
}
