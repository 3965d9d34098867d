package l7

import (
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// LocalReply says what becomes of the proxy's own answers (LocalReplyConfig).
type LocalReply struct {
	Mappers []ReplyMapper // the first one whose filter matches decides
	Format  ReplyFormat   // of the others, and of mappers without one
}

// ReplyMapper changes the answers that its filter matches (ResponseMapper).
type ReplyMapper struct {
	Filter accesslog.Filter
	Code   int     // 0 leaves it
	Body   *string // nil leaves it
	// Headers changes the head; nil changes nothing.
	Headers func(s *filter.Stream)
	Format  ReplyFormat
}

// ReplyFormat makes the body of an answer. The zero value leaves it as it is.
type ReplyFormat struct {
	Format      *accesslog.Format
	ContentType string
}

// rewrite changes a local reply as configured. The response has its head but for what
// describes the body.
func (c *LocalReply) rewrite(st *stream, code int, body string) (int, string, string) {
	st.Meta.Code, st.ReplyBody = code, body
	format := c.Format
	for i := range c.Mappers {
		m := &c.Mappers[i]
		if !m.Filter.Match(st.LogEntry()) {
			continue
		}
		if m.Body != nil {
			body = *m.Body
			st.ReplyBody = body
		}
		if m.Headers != nil {
			m.Headers(&st.Stream)
		}
		if m.Code != 0 {
			code = m.Code
			st.Meta.Code = code
			st.Response.SetInt(header.Status, int64(code))
		}
		if m.Format.Format != nil {
			format = m.Format
		}
		break
	}
	if format.Format == nil {
		return code, body, textPlain
	}
	out := string(format.Format.Append(nil, st.LogEntry()))
	return code, out, format.ContentType
}

const textPlain = "text/plain"
