// Package mutate changes header fields as configuration asks: what to remove, what to
// add, with values that are fixed or made of command operators. Changes are compiled
// once, immutable and used by all streams at once; applying them allocates nothing
// but scratch memory of the header map.
//
// Which changes apply to a stream, and in which order, is decided by who holds them:
// package route and the filters.
package mutate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// Action is what to do where the field is there, or not (HeaderAppendAction).
type Action uint8

// The actions, in the order of the enum.
const (
	AppendOrAdd Action = iota
	AddIfAbsent
	OverwriteOrAdd
	OverwriteIfPresent
)

// Message is the kind of message that is changed.
type Message uint8

// The kinds.
const (
	Request Message = iota
	Response
)

// Headers is the changes of one level of configuration. A nil Headers changes nothing.
type Headers struct {
	of     Message
	remove []field
	add    []addition
}

// NewHeaders returns what changes nothing yet.
func NewHeaders(of Message) *Headers { return &Headers{of: of} }

type field struct {
	name string
	id   header.ID
}

type addition struct {
	field
	action    Action
	keepEmpty bool
	joins     bool // the field is there only once: appending makes it longer
	fixed     string
	format    *accesslog.Format // nil: fixed
}

// ErrReserved refuses a change of a pseudo-header, or of host.
var ErrReserved = errors.New(":-prefixed or host headers may not be modified")

func newField(name string) (field, error) {
	if name == "" {
		return field{}, errors.New("the name of a header is required")
	}
	if !validName(name) {
		return field{}, fmt.Errorf("%q is not the name of a header", name)
	}
	name = match.HeaderName(name)
	if name[0] == ':' {
		return field{}, ErrReserved
	}
	return field{name, header.Lookup(name)}, nil
}

// validName allows what Envoy does: no control characters.
func validName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// Remove adds the removal of a field. Removals apply before everything else.
func (h *Headers) Remove(name string) error {
	f, err := newField(name)
	if err == nil {
		h.remove = append(h.remove, f)
	}
	return err
}

// Add adds a field whose value may contain command operators. A value that comes out
// empty changes nothing unless keepEmpty.
func (h *Headers) Add(name, value string, action Action, keepEmpty bool) error {
	f, err := newField(name)
	if err != nil {
		return err
	}
	a, err := newAddition(h.of, f, value, action, keepEmpty)
	if err == nil {
		h.add = append(h.add, a)
	}
	return err
}

func newAddition(of Message, f field, value string, action Action, keepEmpty bool) (addition, error) {
	if strings.ContainsAny(value, "\r\n\x00") {
		return addition{}, fmt.Errorf("the value of %s contains a line end or NUL", f.name)
	}
	format, err := accesslog.CompileText(value, accesslog.Options{OmitEmpty: true})
	if err != nil {
		return addition{}, err
	}
	a := addition{field: f, action: action, keepEmpty: keepEmpty, joins: joins(of, f.name)}
	if text, ok := format.Literal(); ok {
		a.fixed = text
	} else {
		a.format = format
	}
	return a, nil
}

// Empty reports whether h changes nothing.
func (h *Headers) Empty() bool { return h == nil || len(h.remove) == 0 && len(h.add) == 0 }

// Source describes the stream to command operators; *filter.Stream is one.
type Source interface{ LogEntry() *accesslog.Entry }

// Apply changes m, which belongs to the stream that s describes. All values are made
// before the first one is put in, so that none sees another's effect.
func (h *Headers) Apply(m *header.Map, s Source) {
	if h == nil {
		return
	}
	for i := range h.remove {
		m.Del(h.remove[i].name)
	}
	var few [8]string
	values := few[:0]
	for i := range h.add {
		values = append(values, h.add[i].value(m, s))
	}
	for i := range h.add {
		h.add[i].apply(m, values[i])
	}
}

func (a *addition) value(m *header.Map, s Source) string {
	if a.format == nil {
		return a.fixed
	}
	e := s.LogEntry()
	return m.Format(func(dst []byte) []byte { return clean(a.format.Append(dst, e), len(dst)) })
}

// clean replaces what would end a header line in what was appended from start on.
func clean(b []byte, start int) []byte {
	for i := start; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' || b[i] == 0 {
			b[i] = ' '
		}
	}
	return b
}

func (a *addition) apply(m *header.Map, value string) {
	if value == "" && !a.keepEmpty {
		return
	}
	switch a.action {
	case AddIfAbsent:
		if _, there := m.Find(a.name); !there {
			m.AddKnown(a.id, a.name, value)
		}
	case OverwriteOrAdd:
		m.Set(a.name, value)
	case OverwriteIfPresent:
		if _, there := m.Find(a.name); there {
			m.Set(a.name, value)
		}
	default:
		a.appendTo(m, value)
	}
}

// appendTo adds a field, or a member to the list that a field is which may be there
// only once.
func (a *addition) appendTo(m *header.Map, value string) {
	if old, there := m.Find(a.name); there && a.joins {
		if old != "" {
			value = m.Concat(old, ",", value)
		}
		m.Set(a.name, value)
		return
	}
	m.AddKnown(a.id, a.name, value)
}
