package applog

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// handler is the slog.Handler of one component and the attributes given with
// With.
type handler struct {
	log       *Log
	component *component
	// prefix holds the attributes of With, already rendered.
	prefix []byte
	// group is the dotted name of the open groups, with a final dot.
	group string
}

var _ slog.Handler = (*handler)(nil)

// Enabled is one atomic load.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.component.get()
}

// scratch are the two buffers a line needs.
type scratch struct{ message, line []byte }

// maxKept is the largest buffer that goes back to the pool.
const maxKept = 16 << 10

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	s, _ := h.log.scratches.Get().(*scratch)
	if s == nil {
		s = new(scratch)
	}
	m := append(s.message[:0], r.Message...)
	m = append(m, h.prefix...)
	r.Attrs(func(a slog.Attr) bool {
		m = appendAttr(m, h.group, a)
		return true
	})
	e := entry{time: r.Time, level: r.Level, component: h.component.name, message: m, pc: r.PC}
	if e.time.IsZero() {
		e.time = time.Now()
	}
	line := h.log.format.Load().appendLine(s.line[:0], &e)
	h.log.out.write(line)
	if cap(m) <= maxKept && cap(line) <= maxKept {
		s.message, s.line = m, line
		h.log.scratches.Put(s)
	}
	return nil
}

// WithAttrs keeps attrs for every later record; "component" switches the
// component instead.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.prefix = append([]byte(nil), h.prefix...)
	for _, a := range attrs {
		if a.Key == ComponentKey && h.group == "" && a.Value.Kind() == slog.KindString {
			c.component = h.log.component(a.Value.String())
			continue
		}
		c.prefix = appendAttr(c.prefix, h.group, a)
	}
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group += name + "."
	return &c
}

// appendAttr writes " key=value"; groups become dotted keys.
func appendAttr(b []byte, group string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, sub := range v.Group() {
			b = appendAttr(b, group, sub)
		}
		return b
	}
	if a.Key == "" {
		return b
	}
	b = append(b, ' ')
	b = append(b, group...)
	b = append(b, a.Key...)
	b = append(b, '=')
	switch v.Kind() {
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindTime:
		return v.Time().AppendFormat(b, time.RFC3339Nano)
	case slog.KindString:
		return appendText(b, v.String())
	case slog.KindAny:
		return appendText(b, fmt.Sprint(v.Any()))
	default:
		return appendText(b, v.String())
	}
}

// appendText quotes s unless it is one plain word: what came from the network
// cannot start a line or imitate another attribute.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return append(b, '"', '"')
	}
	for _, r := range s {
		if r <= ' ' || r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r) {
			return strconv.AppendQuote(b, s)
		}
	}
	return append(b, s...)
}
