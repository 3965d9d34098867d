package bootstrap

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// scalar reads n as the scalar or enum type of fd; ok is false after a problem
// and for an unknown enum value that may be dropped.
func (d *decoder) scalar(n *node, fd protoreflect.FieldDescriptor) (v protoreflect.Value, ok bool) {
	var text string
	switch fd.Kind() {
	case protoreflect.StringKind:
		v, text = stringValue(n)
	case protoreflect.BytesKind:
		v, text = bytesValue(n)
	case protoreflect.BoolKind:
		v, text = boolValue(n)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		v, text = signedValue(n, 32)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		v, text = signedValue(n, 64)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		v, text = unsignedValue(n, 32)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		v, text = unsignedValue(n, 64)
	case protoreflect.FloatKind:
		v, text = floatValue(n, 32)
	case protoreflect.DoubleKind:
		v, text = floatValue(n, 64)
	case protoreflect.EnumKind:
		return d.enumValue(n, fd.Enum())
	default:
		text = "fields of kind " + fd.Kind().String() + " cannot be written as text"
	}
	if text != "" {
		d.problem(n.line, "%s", text)
		return v, false
	}
	return v, true
}

func stringValue(n *node) (protoreflect.Value, string) {
	switch n.kind {
	case kindString:
		return protoreflect.ValueOfString(n.text), ""
	case kindBool, kindNumber:
		return protoreflect.Value{}, fmt.Sprintf("expected string, got %s (write it as %s)", n.describe(), strconv.Quote(clip(n.written())))
	}
	return protoreflect.Value{}, "expected string, got " + n.describe()
}

// bytesValue reads base64 in either alphabet, with or without padding.
func bytesValue(n *node) (protoreflect.Value, string) {
	if n.kind != kindString {
		return protoreflect.Value{}, "expected bytes in base64, got " + n.describe()
	}
	text := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(n.text), "=")
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return protoreflect.Value{}, "expected bytes in base64, got " + n.describe()
	}
	return protoreflect.ValueOfBytes(b), ""
}

func boolValue(n *node) (protoreflect.Value, string) {
	switch n.kind {
	case kindBool:
		return protoreflect.ValueOfBool(n.text == "true"), ""
	case kindString:
		switch strings.ToLower(n.text) {
		case "true", "t", "yes", "y", "1":
			return protoreflect.ValueOfBool(true), ""
		case "false", "f", "no", "n", "0":
			return protoreflect.ValueOfBool(false), ""
		}
	case kindNumber:
		if n.text == "0" || n.text == "1" {
			return protoreflect.Value{}, fmt.Sprintf("expected boolean, got number %s (write it as %t)", n.text, n.text == "1")
		}
	}
	return protoreflect.Value{}, "expected boolean, got " + n.describe()
}

// notNumber says what is wrong with n as a number, or nothing.
func notNumber(n *node, want string) string {
	if (n.kind == kindNumber || n.kind == kindString) && isDecimal(n.text) {
		return ""
	}
	return "expected " + want + ", got " + n.describe()
}

func signedValue(n *node, bits int) (protoreflect.Value, string) {
	if text := notNumber(n, "whole number"); text != "" {
		return protoreflect.Value{}, text
	}
	i, err := strconv.ParseInt(n.text, 10, bits)
	if err != nil {
		f, ferr := strconv.ParseFloat(n.text, 64)
		switch {
		case ferr == nil && f != math.Trunc(f):
			return protoreflect.Value{}, "expected whole number, got " + n.describe()
		case ferr != nil || math.Abs(f) > 1<<53 || bits == 32 && int64(f) != int64(int32(f)):
			return protoreflect.Value{}, fmt.Sprintf("%s is out of range (%d to %d)", clip(n.written()), int64(-1)<<(bits-1), int64(1)<<(bits-1)-1)
		}
		i = int64(f)
	}
	if bits == 32 {
		return protoreflect.ValueOfInt32(int32(i)), ""
	}
	return protoreflect.ValueOfInt64(i), ""
}

func unsignedValue(n *node, bits int) (protoreflect.Value, string) {
	if text := notNumber(n, "whole number"); text != "" {
		return protoreflect.Value{}, text
	}
	u, err := strconv.ParseUint(strings.TrimPrefix(n.text, "+"), 10, bits)
	if err != nil {
		f, ferr := strconv.ParseFloat(n.text, 64)
		switch {
		case ferr == nil && f != math.Trunc(f):
			return protoreflect.Value{}, "expected whole number, got " + n.describe()
		case ferr != nil || f < 0 || f > 1<<53 || bits == 32 && f > math.MaxUint32:
			return protoreflect.Value{}, fmt.Sprintf("%s is out of range (0 to %d)", clip(n.written()), uint64(math.MaxUint64)>>(64-bits))
		}
		u = uint64(f)
	}
	if bits == 32 {
		return protoreflect.ValueOfUint32(uint32(u)), ""
	}
	return protoreflect.ValueOfUint64(u), ""
}

func floatValue(n *node, bits int) (protoreflect.Value, string) {
	var f float64
	switch {
	case n.kind == kindString && n.text == "NaN":
		f = math.NaN()
	case n.kind == kindString && n.text == "Infinity":
		f = math.Inf(1)
	case n.kind == kindString && n.text == "-Infinity":
		f = math.Inf(-1)
	default:
		if text := notNumber(n, "number"); text != "" {
			return protoreflect.Value{}, text
		}
		var err error
		if f, err = strconv.ParseFloat(n.text, bits); err != nil {
			return protoreflect.Value{}, clip(n.written()) + " is out of range"
		}
	}
	if bits == 32 {
		return protoreflect.ValueOfFloat32(float32(f)), ""
	}
	return protoreflect.ValueOfFloat64(f), ""
}

// enumValue takes names in any letter case, and numbers, also in quotes.
func (d *decoder) enumValue(n *node, ed protoreflect.EnumDescriptor) (protoreflect.Value, bool) {
	switch n.kind {
	case kindNumber, kindString:
		if isDecimal(n.text) {
			v, text := signedValue(n, 32)
			if text != "" {
				d.problem(n.line, "%s", text)
				return v, false
			}
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(v.Int())), true
		}
		values := ed.Values()
		if v := values.ByName(protoreflect.Name(n.text)); v != nil {
			return protoreflect.ValueOfEnum(v.Number()), true
		}
		for i := range values.Len() {
			if strings.EqualFold(string(values.Get(i).Name()), n.text) {
				return protoreflect.ValueOfEnum(values.Get(i).Number()), true
			}
		}
	case kindNull:
		return protoreflect.ValueOfEnum(0), true
	default:
		d.problem(n.line, "expected one of %s, got %s", enumNames(ed), n.describe())
		return protoreflect.Value{}, false
	}
	if d.o.AllowUnknownFields {
		d.report.UnknownFields++
		d.warnAt(n.line, "unknown value %s of %s, ignored", n.describe(), ed.FullName())
		return protoreflect.Value{}, false
	}
	d.problem(n.line, "expected one of %s, got %s", enumNames(ed), n.describe())
	return protoreflect.Value{}, false
}

// enumNames lists the values an operator may write.
func enumNames(ed protoreflect.EnumDescriptor) string {
	const most = 12
	var b strings.Builder
	for i := range ed.Values().Len() {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == most {
			b.WriteString("...")
			break
		}
		b.WriteString(string(ed.Values().Get(i).Name()))
	}
	return b.String()
}

// isDecimal tells whether s is a JSON number, or one with a leading plus or
// leading zeros.
func isDecimal(s string) bool {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	s, whole := digits(s)
	if !whole {
		return false
	}
	if s != "" && s[0] == '.' {
		var ok bool
		if s, ok = digits(s[1:]); !ok {
			return false
		}
	}
	if s == "" || s[0] != 'e' && s[0] != 'E' {
		return s == ""
	}
	s = s[1:]
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	s, exp := digits(s)
	return exp && s == ""
}

// digits cuts the decimal digits s starts with; ok tells whether there are any.
func digits(s string) (rest string, ok bool) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[i:], i > 0
}
