package bootstrap

import (
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// wellKnown decodes the messages that JSON writes in a form of their own, and
// reports whether m was one (in that form: durations and wrappers may also be
// spelled out as objects).
func (d *decoder) wellKnown(n *node, m protoreflect.Message) bool {
	md := m.Descriptor()
	if md.ParentFile().Package() != "google.protobuf" {
		return false
	}
	switch x := m.Interface().(type) {
	case *anypb.Any:
		d.any(n, x)
	case *structpb.Struct:
		d.structValue(n, x)
	case *structpb.Value:
		proto.Merge(x, valueOf(n))
	case *structpb.ListValue:
		if n.kind != kindList {
			d.problem(n.line, "expected a list, got %s", n.describe())
			return true
		}
		proto.Merge(x, valueOf(n).GetListValue())
	case *durationpb.Duration:
		return d.duration(n, x)
	case *timestamppb.Timestamp:
		return d.timestamp(n, x)
	case *fieldmaskpb.FieldMask:
		return d.fieldMask(n, x)
	default:
		return d.wrapper(n, m)
	}
	return true
}

// wrapper reads UInt32Value and its like from a bare scalar.
func (d *decoder) wrapper(n *node, m protoreflect.Message) bool {
	md := m.Descriptor()
	fd := md.Fields().ByName("value")
	if fd == nil || md.Fields().Len() != 1 || !strings.HasSuffix(string(md.Name()), "Value") || n.kind == kindMap {
		return false
	}
	if n.kind == kindNull {
		return true
	}
	if v, ok := d.scalar(n, fd); ok {
		m.Set(fd, v)
	}
	return true
}

func (d *decoder) structValue(n *node, x *structpb.Struct) {
	switch n.kind {
	case kindNull:
	case kindMap:
		proto.Merge(x, valueOf(n).GetStructValue())
	default:
		d.problem(n.line, "expected an object of free form, got %s", n.describe())
	}
}

// valueOf turns a tree into a free-form value. Depth was bounded by parsing.
func valueOf(n *node) *structpb.Value {
	switch n.kind {
	case kindBool:
		return structpb.NewBoolValue(n.text == "true")
	case kindNumber:
		f, err := strconv.ParseFloat(n.text, 64)
		if err != nil {
			return structpb.NewStringValue(n.text)
		}
		return structpb.NewNumberValue(f)
	case kindString:
		return structpb.NewStringValue(n.text)
	case kindList:
		l := &structpb.ListValue{Values: make([]*structpb.Value, len(n.items))}
		for i, item := range n.items {
			l.Values[i] = valueOf(item)
		}
		return structpb.NewListValue(l)
	case kindMap:
		s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(n.fields))}
		for i := range n.fields {
			s.Fields[n.fields[i].key] = valueOf(n.fields[i].val)
		}
		return structpb.NewStructValue(s)
	}
	return structpb.NewNullValue()
}

// nodeOf is the way back, for the value of a TypedStruct: ok is false where it
// nests too deep.
func nodeOf(v *structpb.Value, depth int) (n *node, ok bool) {
	if depth > maxDepth {
		return nil, false
	}
	switch k := v.GetKind().(type) {
	case *structpb.Value_BoolValue:
		return &node{kind: kindBool, text: strconv.FormatBool(k.BoolValue)}, true
	case *structpb.Value_NumberValue:
		return numberNode(k.NumberValue), true
	case *structpb.Value_StringValue:
		return &node{kind: kindString, text: k.StringValue}, true
	case *structpb.Value_ListValue:
		n = &node{kind: kindList}
		for _, item := range k.ListValue.GetValues() {
			c, ok := nodeOf(item, depth+1)
			if !ok {
				return nil, false
			}
			n.items = append(n.items, c)
		}
		return n, true
	case *structpb.Value_StructValue:
		return structNode(k.StructValue, depth)
	}
	return &node{kind: kindNull}, true
}

// structNode lists the members of s by name, so that messages about them come
// in a fixed order.
func structNode(s *structpb.Struct, depth int) (*node, bool) {
	n := &node{kind: kindMap}
	for _, key := range sortedKeys(s.GetFields()) {
		c, ok := nodeOf(s.GetFields()[key], depth+1)
		if !ok {
			return nil, false
		}
		n.fields = append(n.fields, member{key: key, val: c})
	}
	return n, true
}

// numberNode writes f so that a whole number reads as one.
func numberNode(f float64) *node {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		text := map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]
		if math.IsNaN(f) {
			text = "NaN"
		}
		return &node{kind: kindString, text: text}
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<63 {
		return &node{kind: kindNumber, text: strconv.FormatFloat(f, 'f', -1, 64)}
	}
	return &node{kind: kindNumber, text: strconv.FormatFloat(f, 'g', -1, 64)}
}

// maxDurationSeconds is the range of google.protobuf.Duration, 10,000 years.
const maxDurationSeconds = 315_576_000_000

func (d *decoder) duration(n *node, x *durationpb.Duration) bool {
	switch n.kind {
	case kindMap:
		return false
	case kindNull:
		return true
	case kindString:
		if secs, nanos, ok := parseDuration(n.text); ok {
			x.Seconds, x.Nanos = secs, nanos
			return true
		}
	}
	hint := ""
	if s := secondsOf(n); s != "" {
		hint = " (write it as " + s + ")"
	}
	d.problem(n.line, "expected a duration in seconds such as 0.25s, got %s%s", n.describe(), hint)
	return true
}

// parseDuration reads -1.5s: seconds with at most nine decimals, and an s.
func parseDuration(s string) (secs int64, nanos int32, ok bool) {
	s, ok = strings.CutSuffix(s, "s")
	if !ok {
		return 0, 0, false
	}
	s, negative := strings.CutPrefix(s, "-")
	whole, fraction, _ := strings.Cut(s, ".")
	if rest, any := digits(whole); rest != "" || !any {
		return 0, 0, false
	}
	if rest, _ := digits(fraction); rest != "" || len(fraction) > 9 {
		return 0, 0, false
	}
	secs, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || secs > maxDurationSeconds {
		return 0, 0, false
	}
	n, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 32)
	if negative {
		secs, n = -secs, -n
	}
	return secs, int32(n), true
}

// secondsOf guesses which duration was meant: a bare number of seconds, or Go's
// and everybody else's 250ms, 5m, 1h30m.
func secondsOf(n *node) string {
	if n.kind != kindNumber && n.kind != kindString {
		return ""
	}
	if isDecimal(n.text) {
		return clip(n.text) + "s"
	}
	dur, err := time.ParseDuration(n.text)
	if err != nil {
		return ""
	}
	return strconv.FormatFloat(dur.Seconds(), 'f', -1, 64) + "s"
}

func (d *decoder) timestamp(n *node, x *timestamppb.Timestamp) bool {
	switch n.kind {
	case kindMap:
		return false
	case kindNull:
		return true
	case kindString:
		if t, err := time.Parse(time.RFC3339Nano, n.text); err == nil {
			x.Seconds, x.Nanos = t.Unix(), int32(t.Nanosecond())
			return true
		}
	}
	d.problem(n.line, "expected a time such as 2026-01-31T12:00:00Z, got %s", n.describe())
	return true
}

func (d *decoder) fieldMask(n *node, x *fieldmaskpb.FieldMask) bool {
	switch n.kind {
	case kindMap:
		return false
	case kindNull:
		return true
	case kindString:
		for p := range strings.SplitSeq(n.text, ",") {
			if p = strings.TrimSpace(p); p != "" {
				x.Paths = append(x.Paths, snake(p))
			}
		}
		return true
	}
	d.problem(n.line, "expected field names separated by commas, got %s", n.describe())
	return true
}

// snake turns lowerCamel into proto field names.
func snake(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			b.WriteByte(c + 'a' - 'A')
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
