package jsonpb

import (
	"cmp"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Printer turns messages into JSON (print_options).
type Printer struct {
	Set        *Set
	Whitespace bool // add_whitespace
	Defaults   bool // always_print_primitive_fields
	EnumInts   bool // always_print_enums_as_ints
	ProtoNames bool // preserve_proto_field_names
}

// maxNesting is how deeply messages may be nested.
const maxNesting = 100

// Append appends the JSON of a message of type t in wire format, which is lent: of what is at
// the path in it, if there is one.
func (p *Printer) Append(dst []byte, t Type, path Path, wire []byte) ([]byte, error) {
	var m protoreflect.Message = dynamicpb.NewMessage(t.d)
	if err := p.decode(wire, m.Interface()); err != nil {
		return dst, err
	}
	if len(path) == 0 {
		return p.AppendMessage(dst, m)
	}
	for _, fd := range path[:len(path)-1] {
		if fd.Cardinality() == protoreflect.Repeated {
			return dst, invalid("There are several of " + string(fd.Name()) + ".")
		}
		m = m.Get(fd).Message()
	}
	last := path[len(path)-1]
	return p.field(dst, last, m.Get(last), 0)
}

// AppendMessage is Append for a message that is there already.
func (p *Printer) AppendMessage(dst []byte, m protoreflect.Message) ([]byte, error) {
	dst, err := p.message(dst, m, 0)
	if err == nil && p.Whitespace {
		dst = append(dst, '\n')
	}
	return dst, err
}

func (p *Printer) decode(wire []byte, m proto.Message) error {
	o := proto.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true, Resolver: p.Set.types, RecursionLimit: maxNesting}
	if err := o.Unmarshal(wire, m); err != nil {
		return invalid("Could not decode a message of the type " + string(m.ProtoReflect().Descriptor().FullName()) + ".")
	}
	return nil
}

// line begins a line, where there are any.
func (p *Printer) line(dst []byte, depth int) []byte {
	if !p.Whitespace {
		return dst
	}
	dst = append(dst, '\n')
	for range depth {
		dst = append(dst, ' ')
	}
	return dst
}

// name writes the name of a value, after another one unless it is the first.
func (p *Printer) name(dst []byte, name string, depth int, first *bool) []byte {
	dst = p.next(dst, depth, first)
	dst = append(appendString(dst, name), ':')
	if p.Whitespace {
		dst = append(dst, ' ')
	}
	return dst
}

func (p *Printer) next(dst []byte, depth int, first *bool) []byte {
	if !*first {
		dst = append(dst, ',')
	}
	*first = false
	return p.line(dst, depth)
}

// closing ends an object or array.
func (p *Printer) closing(dst []byte, c byte, depth int, empty bool) []byte {
	if !empty {
		dst = p.line(dst, depth)
	}
	return append(dst, c)
}

func (p *Printer) message(dst []byte, m protoreflect.Message, depth int) (_ []byte, err error) {
	if depth > maxNesting {
		return dst, invalid("Message too deep. Max recursion depth reached.")
	}
	d := m.Descriptor()
	if fd := wrapped(d); fd != nil {
		return p.value(dst, fd, m.Get(fd), depth)
	}
	if d.ParentFile() != nil && strings.HasPrefix(string(d.FullName()), "google.protobuf.") {
		switch d.Name() {
		case "Any":
			return p.any(dst, m, depth)
		case "Timestamp", "Duration", "FieldMask":
			return special(dst, m)
		case "Struct", "ListValue":
			fd := d.Fields().ByNumber(1)
			return p.field(dst, fd, m.Get(fd), depth)
		case "Value":
			fd := m.WhichOneof(d.Oneofs().Get(0))
			if fd == nil {
				return append(dst, "null"...), nil
			}
			return p.value(dst, fd, m.Get(fd), depth)
		}
	}
	first := true
	dst = append(dst, '{')
	if dst, err = p.fields(dst, m, depth+1, &first); err != nil {
		return dst, err
	}
	return p.closing(dst, '}', depth, first), nil
}

// special writes a message that JSON writes as a string.
func special(dst []byte, m protoreflect.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{AllowPartial: true}.Marshal(m.Interface())
	if err != nil {
		return dst, &Error{"Could not print a message of the type " + string(m.Descriptor().FullName()) + "."}
	}
	return append(dst, text...), nil
}

// fields writes the fields of a message in the order of their numbers.
func (p *Printer) fields(dst []byte, m protoreflect.Message, depth int, first *bool) (_ []byte, err error) {
	all := make([]protoreflect.FieldDescriptor, 0, 16)
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		all = append(all, fd)
		return true
	})
	if p.Defaults {
		list := m.Descriptor().Fields()
		for i := range list.Len() {
			if fd := list.Get(i); !fd.HasPresence() && !m.Has(fd) {
				all = append(all, fd)
			}
		}
	}
	slices.SortFunc(all, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Number(), b.Number()) })
	for _, fd := range all {
		name := fd.JSONName()
		switch {
		case fd.IsExtension():
			name = "[" + string(fd.FullName()) + "]"
		case p.ProtoNames:
			name = string(fd.Name())
		}
		dst = p.name(dst, name, depth, first)
		if dst, err = p.field(dst, fd, m.Get(fd), depth); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (p *Printer) field(dst []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) (_ []byte, err error) {
	first := true
	switch {
	case fd.IsMap():
		dst = append(dst, '{')
		for _, k := range keys(v.Map()) {
			dst = p.name(dst, k.String(), depth+1, &first)
			if dst, err = p.value(dst, fd.MapValue(), v.Map().Get(k), depth+1); err != nil {
				return dst, err
			}
		}
		return p.closing(dst, '}', depth, first), nil
	case fd.IsList():
		dst = append(dst, '[')
		for i := range v.List().Len() {
			dst = p.next(dst, depth+1, &first)
			if dst, err = p.value(dst, fd, v.List().Get(i), depth+1); err != nil {
				return dst, err
			}
		}
		return p.closing(dst, ']', depth, first), nil
	}
	return p.value(dst, fd, v, depth)
}

// keys are those of a map, in order.
func keys(m protoreflect.Map) []protoreflect.MapKey {
	out := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		out = append(out, k)
		return true
	})
	slices.SortFunc(out, func(a, b protoreflect.MapKey) int {
		switch x := a.Interface().(type) {
		case int32, int64:
			return cmp.Compare(a.Int(), b.Int())
		case uint32, uint64:
			return cmp.Compare(a.Uint(), b.Uint())
		case string:
			return strings.Compare(x, b.String())
		}
		return strings.Compare(a.String(), b.String())
	})
	return out
}

// value writes one value of a field.
func (p *Printer) value(dst []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) ([]byte, error) {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return p.message(dst, v.Message(), depth)
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, v.Bool()), nil
	case protoreflect.StringKind:
		return appendString(dst, v.String()), nil
	case protoreflect.BytesKind:
		dst = base64.StdEncoding.AppendEncode(append(dst, '"'), v.Bytes())
		return append(dst, '"'), nil
	case protoreflect.EnumKind:
		return p.enum(dst, fd.Enum(), v.Enum()), nil
	case protoreflect.FloatKind:
		return appendFloat(dst, v.Float(), 32), nil
	case protoreflect.DoubleKind:
		return appendFloat(dst, v.Float(), 64), nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(dst, v.Uint(), 10), nil
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return append(strconv.AppendUint(append(dst, '"'), v.Uint(), 10), '"'), nil
	}
	return append(strconv.AppendInt(append(dst, '"'), v.Int(), 10), '"'), nil
}

func (p *Printer) enum(dst []byte, d protoreflect.EnumDescriptor, n protoreflect.EnumNumber) []byte {
	if d.FullName() == "google.protobuf.NullValue" {
		return append(dst, "null"...)
	}
	if v := d.Values().ByNumber(n); v != nil && !p.EnumInts {
		return appendString(dst, string(v.Name()))
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

// any writes a google.protobuf.Any, whose type must be one of the set.
func (p *Printer) any(dst []byte, m protoreflect.Message, depth int) (_ []byte, err error) {
	d := m.Descriptor().Fields()
	typeURL, wire := m.Get(d.ByNumber(1)).String(), m.Get(d.ByNumber(2)).Bytes()
	first := true
	dst = append(dst, '{')
	if typeURL == "" && len(wire) == 0 {
		return append(dst, '}'), nil
	}
	t, err := p.Set.types.FindMessageByURL(typeURL)
	if err != nil {
		return dst, invalid("Could not find the type " + typeURL + ".")
	}
	inner := t.New()
	if err := p.decode(wire, inner.Interface()); err != nil {
		return dst, err
	}
	dst = appendString(p.name(dst, "@type", depth+1, &first), typeURL)
	if wrapped(inner.Descriptor()) != nil || wellKnown(inner.Descriptor()) != nil {
		dst, err = p.message(p.name(dst, "value", depth+1, &first), inner, depth+1)
	} else {
		dst, err = p.fields(dst, inner, depth+1, &first)
	}
	return p.closing(dst, '}', depth, false), err
}

// appendFloat writes the shortest of two precisions that reads back the same.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	short, long := 15, 17
	if bits == 32 {
		short, long = 6, 9
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'g', short, 64)
	if back, err := strconv.ParseFloat(string(dst[start:]), bits); err != nil || back != f {
		dst = strconv.AppendFloat(dst[:start], f, 'g', long, 64)
	}
	return dst
}

// appendString writes a string. What HTML or a terminal might take for something else is
// escaped, as Envoy does.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\b':
			dst = append(dst, `\b`...)
		case r == '\f':
			dst = append(dst, `\f`...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		case r > 0xffff && hidden(r):
			r -= 0x10000
			dst = appendEscape(appendEscape(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
		case hidden(r):
			dst = appendEscape(dst, r)
		default:
			dst = append(dst, s[i:i+n]...)
		}
		i += n
	}
	return append(dst, '"')
}

func appendEscape(dst []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// hidden reports whether a character is one that is not seen, or that begins a tag.
func hidden(r rune) bool {
	switch {
	case r < ' ', r == '<', r == '>', r == 0x7f:
		return true
	case r < 0xad:
		return false
	}
	for _, span := range [...][2]rune{
		{0xad, 0xad}, {0x600, 0x603}, {0x6dd, 0x6dd}, {0x70f, 0x70f}, {0x17b4, 0x17b5}, {0x200b, 0x200f}, {0x2028, 0x202e},
		{0x2060, 0x2064}, {0x206a, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0x1d173, 0x1d17a}, {0xe0001, 0xe0001}, {0xe0020, 0xe007f},
	} {
		if span[0] <= r && r <= span[1] {
			return true
		}
	}
	return false
}
