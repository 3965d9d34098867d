package jsonpb

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// scalar appends the value of a field that is no message, without its tag. ok tells whether
// the token is one of the kind.
func scalar(dst []byte, fd protoreflect.FieldDescriptor, t token, foldEnums bool) (out []byte, ok bool) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		b, ok := truth(t)
		return protowire.AppendVarint(dst, protowire.EncodeBool(b)), ok
	case protoreflect.StringKind:
		return protowire.AppendString(dst, t.text), t.kind == text
	case protoreflect.BytesKind:
		b, ok := decode64(t.text)
		return protowire.AppendBytes(dst, b), ok && t.kind == text
	case protoreflect.EnumKind:
		n, ok := enum(fd.Enum(), t, foldEnums)
		return protowire.AppendVarint(dst, uint64(int64(n))), ok
	case protoreflect.DoubleKind:
		f, ok := float(t, 64)
		return protowire.AppendFixed64(dst, math.Float64bits(f)), ok
	case protoreflect.FloatKind:
		f, ok := float(t, 32)
		return protowire.AppendFixed32(dst, math.Float32bits(float32(f))), ok
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, ok := unsigned(t, 32)
		if fd.Kind() == protoreflect.Fixed32Kind {
			return protowire.AppendFixed32(dst, uint32(n)), ok
		}
		return protowire.AppendVarint(dst, n), ok
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, ok := unsigned(t, 64)
		if fd.Kind() == protoreflect.Fixed64Kind {
			return protowire.AppendFixed64(dst, n), ok
		}
		return protowire.AppendVarint(dst, n), ok
	}
	return signed(dst, fd.Kind(), t)
}

func signed(dst []byte, k protoreflect.Kind, t token) (out []byte, ok bool) {
	bits := 64
	switch k {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		bits = 32
	}
	n, ok := integer(t, bits)
	switch k {
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return protowire.AppendVarint(dst, protowire.EncodeZigZag(n)), ok
	case protoreflect.Sfixed32Kind:
		return protowire.AppendFixed32(dst, uint32(int32(n))), ok
	case protoreflect.Sfixed64Kind:
		return protowire.AppendFixed64(dst, uint64(n)), ok
	}
	return protowire.AppendVarint(dst, uint64(n)), ok
}

func truth(t token) (b, ok bool) {
	switch t.kind {
	case boolean, text:
		switch strings.ToLower(t.text) {
		case "true", "t", "yes", "y", "1":
			return true, true
		case "false", "f", "no", "n", "0":
			return false, true
		}
	}
	return false, false
}

func integer(t token, bits int) (int64, bool) {
	if t.kind != number && t.kind != text {
		return 0, false
	}
	if n, err := strconv.ParseInt(t.text, 10, bits); err == nil {
		return n, true
	}
	f, ok := whole(t)
	if limit := math.Ldexp(1, bits-1); !ok || f < -limit || f >= limit {
		return 0, false
	}
	return int64(f), true
}

func unsigned(t token, bits int) (uint64, bool) {
	if t.kind != number && t.kind != text {
		return 0, false
	}
	if n, err := strconv.ParseUint(t.text, 10, bits); err == nil {
		return n, true
	}
	f, ok := whole(t)
	if !ok || f < 0 || f >= math.Ldexp(1, bits) {
		return 0, false
	}
	return uint64(f), true
}

// whole reads an integer that is written with a fraction or an exponent.
func whole(t token) (float64, bool) {
	if t.kind != number {
		return 0, false
	}
	f, err := strconv.ParseFloat(t.text, 64)
	return f, err == nil && f == math.Trunc(f)
}

func float(t token, bits int) (float64, bool) {
	switch {
	case t.kind == text && t.text == "NaN":
		return math.Float64frombits(0x7ff8 << 48), true // what C++ writes
	case t.kind == text && t.text == "Infinity":
		return math.Inf(1), true
	case t.kind == text && t.text == "-Infinity":
		return math.Inf(-1), true
	case t.kind == text:
		// The words and the hexadecimal that Go knows are not JSON's.
		if strings.Trim(t.text, "+-.0123456789eE") != "" {
			return 0, false
		}
	case t.kind != number:
		return 0, false
	}
	f, err := strconv.ParseFloat(t.text, bits)
	return f, err == nil
}

// decode64 reads base64 of either alphabet, padded or not.
func decode64(s string) ([]byte, bool) {
	s = strings.TrimRight(s, "=")
	enc := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.RawURLEncoding
	}
	b, err := enc.DecodeString(s)
	return b, err == nil
}

// enum reads a name or a number. With fold, names in any case do, and a minus is an
// underscore.
func enum(d protoreflect.EnumDescriptor, t token, fold bool) (protoreflect.EnumNumber, bool) {
	if t.kind == text {
		if v := d.Values().ByName(protoreflect.Name(t.text)); v != nil {
			return v.Number(), true
		}
	}
	if n, ok := integer(t, 32); ok { // as text it must be one of the enum's
		n := protoreflect.EnumNumber(n)
		return n, t.kind == number || d.Values().ByNumber(n) != nil
	}
	if t.kind == text && fold {
		name := strings.ToUpper(strings.ReplaceAll(t.text, "-", "_"))
		if v := d.Values().ByName(protoreflect.Name(name)); v != nil {
			return v.Number(), true
		}
	}
	return 0, false
}

// wireType is how a value of the kind is written.
func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	}
	return protowire.VarintType
}
