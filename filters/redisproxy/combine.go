package redisproxy

import (
	"fmt"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// combine appends to dst what the replies of several hosts make, and reports whether that
// is no error. errors is how many of them are errors.
func combine(dst *buffer.Buf, o *op, replies []reply, errors int) bool {
	switch {
	case errors > 0 && (o.shape == agreed || o.shape == sum && o.c != nil && o.c.kind == eachSum):
		resp.AppendLine(dst, resp.Error, fmt.Sprintf("finished with %d error(s)", errors))
		return false
	case errors > 0:
		for i := range replies {
			if replies[i].failed() {
				dst.MoveAll(&replies[i].body)
				break
			}
		}
		return false
	}
	switch o.shape {
	case agreed:
		dst.AppendString("+OK\r\n")
	case sum:
		total := int64(0)
		for i := range replies {
			total += replies[i].number()
		}
		resp.AppendInteger(dst, total)
	case joined:
		join(dst, replies)
	case merged:
		mergeInfo(dst, replies)
	default:
		return same(dst, replies)
	}
	return true
}

// join makes one array of several. Replies that are none are left as the first one says.
func join(dst *buffer.Buf, replies []reply) {
	total, kind := 0, byte(resp.Array)
	for i := range replies {
		r := &replies[i]
		switch r.kind {
		case resp.Array, resp.Set, resp.Map:
			total, kind = total+int(max(r.number(), 0)), r.kind
		default:
			dst.MoveAll(&replies[0].body)
			return
		}
	}
	resp.AppendHeader(dst, kind, total)
	for i := range replies {
		r := &replies[i]
		r.body.Discard(len(r.line) + 2)
		dst.MoveAll(&r.body)
	}
}

// same appends what all say. Where they differ in single characters it is the lesser one:
// of the lists of 0 and 1 that SCRIPT EXISTS answers, what is true everywhere.
func same(dst *buffer.Buf, replies []reply) bool {
	text := replies[0].body.Bytes()
	for i := range replies[1:] {
		other := replies[1+i].body.Bytes()
		if len(other) != len(text) {
			resp.AppendLine(dst, resp.Error, "the hosts do not agree")
			return false
		}
		for k := range text {
			text[k] = min(text[k], other[k])
		}
	}
	dst.Append(text)
	return true
}
