package jsonpb

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Binding is a value that does not come with the body, as text.
type Binding struct {
	Path  Path
	Value string
}

// Encoder turns JSON into messages of one type.
type Encoder struct {
	Set  *Set
	Type Type
	Body Path // where in the message the JSON goes; nil: it is the message
	// FoldEnums takes names of enums in any case.
	FoldEnums bool
	// RejectCollisions refuses a value that is bound and that the JSON says otherwise. If not,
	// the JSON wins.
	RejectCollisions bool
}

// Append appends the message that JSON and bindings make, in wire format. The JSON is lent.
// An *Error says what is wrong with either.
func (e *Encoder) Append(dst, text []byte, bindings []Binding) ([]byte, error) {
	w := writer{Encoder: e, scanner: scanner{b: text}}
	var root weave
	for _, b := range bindings {
		root.add(b)
	}
	dst, err := w.body(dst, e.Type.d, e.Body, &root)
	if err != nil {
		return dst, err
	}
	return dst, w.end()
}

// weave is what is bound within a message: fields of its own, and of messages in it.
type weave struct {
	fields []bound
	kids   []kid
}

// bound is a field and what is bound to it. There is one for each field, so that what a
// client binds many times costs no more to look up.
type bound struct {
	fd     protoreflect.FieldDescriptor
	values []string
}

type kid struct {
	fd protoreflect.FieldDescriptor
	w  *weave
}

func (w *weave) add(b Binding) {
	for i, fd := range b.Path {
		if i == len(b.Path)-1 {
			w.bind(fd, b.Value)
			return
		}
		next := w.under(fd)
		if next == nil {
			next = &weave{}
			w.kids = append(w.kids, kid{fd, next})
		}
		w = next
	}
}

func (w *weave) bind(fd protoreflect.FieldDescriptor, value string) {
	for i := range w.fields {
		if w.fields[i].fd == fd {
			w.fields[i].values = append(w.fields[i].values, value)
			return
		}
	}
	w.fields = append(w.fields, bound{fd, []string{value}})
}

// take removes what is bound to a field, and returns it.
func (w *weave) take(fd protoreflect.FieldDescriptor) []string {
	for i := range w.fields {
		if w.fields[i].fd == fd {
			values := w.fields[i].values
			w.fields = slices.Delete(w.fields, i, i+1)
			return values
		}
	}
	return nil
}

// under returns what is bound within a field, nil if that is nothing.
func (w *weave) under(fd protoreflect.FieldDescriptor) *weave {
	if w == nil {
		return nil
	}
	for _, k := range w.kids {
		if k.fd == fd {
			return k.w
		}
	}
	return nil
}

func (w *weave) empty() bool { return len(w.fields) == 0 && len(w.kids) == 0 }

// writer is one message under way.
type writer struct {
	*Encoder
	scanner
	at []string // names of the fields around
}

// body writes the message d, in which the JSON is at the path.
func (w *writer) body(dst []byte, d protoreflect.MessageDescriptor, path Path, bind *weave) (_ []byte, err error) {
	if len(path) == 0 {
		return w.object(dst, d, bind, 0)
	}
	fd := path[0]
	if len(path) == 1 {
		dst, err = w.field(dst, fd, bind, 1)
	} else {
		dst, err = w.message(dst, fd, func(dst []byte) ([]byte, error) {
			return w.body(dst, fd.Message(), path[1:], bind.under(fd))
		})
	}
	if err != nil {
		return dst, err
	}
	return w.rest(dst, bind)
}

// message writes a field that is a message whose content f writes.
func (w *writer) message(dst []byte, fd protoreflect.FieldDescriptor, f func(dst []byte) ([]byte, error)) ([]byte, error) {
	if fd.Kind() == protoreflect.GroupKind {
		dst, err := f(protowire.AppendTag(dst, fd.Number(), protowire.StartGroupType))
		return protowire.AppendTag(dst, fd.Number(), protowire.EndGroupType), err
	}
	return delimited(dst, fd.Number(), f)
}

// delimited writes a field whose length is known when f has written it.
func delimited(dst []byte, n protowire.Number, f func(dst []byte) ([]byte, error)) ([]byte, error) {
	dst = protowire.AppendTag(dst, n, protowire.BytesType)
	start := len(dst)
	dst, err := f(dst)
	if err != nil {
		return dst, err
	}
	var size [10]byte
	return slices.Insert(dst, start, protowire.AppendVarint(size[:0], uint64(len(dst)-start))...), nil
}

// object reads a JSON object as the message d, and adds what is bound within it.
func (w *writer) object(dst []byte, d protoreflect.MessageDescriptor, bind *weave, depth int) ([]byte, error) {
	var chosen map[protoreflect.FullName]protoreflect.FieldDescriptor // of its oneofs
	err := w.scanner.object(depth, func(name string) (err error) {
		fd := field(d, name)
		if fd == nil {
			return w.skip(depth + 1)
		}
		if o := fd.ContainingOneof(); o != nil && !o.IsSynthetic() && w.peek() != 'n' {
			if was := chosen[o.FullName()]; was != nil && was != fd {
				return w.wrong("invalid value oneof field '" + string(o.Name()) + "' is already set. Cannot set '" + string(fd.Name()) + "' for type oneof")
			}
			if chosen == nil {
				chosen = map[protoreflect.FullName]protoreflect.FieldDescriptor{}
			}
			chosen[o.FullName()] = fd
		}
		dst, err = w.field(dst, fd, bind, depth+1)
		return err
	})
	if err != nil {
		return dst, err
	}
	return w.rest(dst, bind)
}

// field reads the JSON value of a field of the message in which bind is bound.
func (w *writer) field(dst []byte, fd protoreflect.FieldDescriptor, bind *weave, depth int) (_ []byte, err error) {
	w.at = append(w.at, string(fd.Name()))
	defer func() { w.at = w.at[:len(w.at)-1] }()
	switch c := w.peek(); {
	case c == 'n' && !takesNull(fd):
		return dst, w.skip(depth)
	case fd.IsMap():
		err = w.scanner.object(depth, func(key string) (err error) {
			dst, err = w.entry(dst, fd, key, depth+1)
			return err
		})
	case c == '[' && fd.IsList():
		i := 0
		err = w.array(depth, func() (err error) {
			w.at[len(w.at)-1] = string(fd.Name()) + "[" + strconv.Itoa(i) + "]"
			i++
			dst, err = w.one(dst, fd, nil, depth+1)
			return err
		})
	case c == '{':
		return w.one(dst, fd, bind.under(fd), depth)
	case c == '[':
		return w.one(dst, fd, nil, depth)
	default:
		return w.collide(dst, fd, bind, depth)
	}
	return dst, err
}

// takesNull reports whether null is a value of the field, rather than no value.
func takesNull(fd protoreflect.FieldDescriptor) bool {
	if fd.Message() != nil {
		return fd.Message().FullName() == "google.protobuf.Value"
	}
	return fd.Enum() != nil && fd.Enum().FullName() == "google.protobuf.NullValue"
}

// entry reads the value of a key of a map.
func (w *writer) entry(dst []byte, fd protoreflect.FieldDescriptor, key string, depth int) ([]byte, error) {
	return delimited(dst, fd.Number(), func(dst []byte) ([]byte, error) {
		k := fd.MapKey()
		dst, ok := scalar(protowire.AppendTag(dst, k.Number(), wireType(k.Kind())), k, token{text, key}, false)
		if !ok {
			return dst, w.refuse(k, token{text, key})
		}
		return w.one(dst, fd.MapValue(), nil, depth)
	})
}

// collide reads a scalar of a field that may be bound, too.
func (w *writer) collide(dst []byte, fd protoreflect.FieldDescriptor, bind *weave, depth int) (_ []byte, err error) {
	if bind == nil {
		return w.one(dst, fd, nil, depth)
	}
	was := bind.take(fd)
	if fd.IsList() {
		for _, v := range was {
			if dst, err = w.bound(dst, fd, v); err != nil {
				return dst, err
			}
		}
	}
	start := len(dst)
	dst, err = w.one(dst, fd, nil, depth)
	if err != nil || fd.IsList() || !w.RejectCollisions {
		return dst, err
	}
	for _, v := range was {
		other, err := w.bound(nil, fd, v)
		if err != nil {
			return dst, err
		}
		if !bytes.Equal(other, dst[start:]) {
			return dst, invalid("The binding value " + strconv.Quote(v) + " of the field " + string(fd.Name()) +
				" is conflicting with the value " + string(w.b[w.i-w.back():w.i]) + " in the body.")
		}
	}
	return dst, nil
}

// back is how long the scalar is that was read last.
func (w *writer) back() int {
	i := w.i
	if i > 0 && w.b[i-1] == '"' {
		return i - bytes.LastIndexByte(w.b[:i-1], '"')
	}
	for i > 0 && !bytes.ContainsRune([]byte(" \t\r\n:,[{"), rune(w.b[i-1])) {
		i--
	}
	return w.i - i
}

// one reads one value of a field: an element of it, if it has several.
func (w *writer) one(dst []byte, fd protoreflect.FieldDescriptor, bind *weave, depth int) ([]byte, error) {
	if d := fd.Message(); d != nil {
		if known := wellKnown(d); known != nil {
			return w.known(dst, fd, known, depth)
		}
		if inner := wrapped(d); inner != nil && w.peek() != '{' {
			return delimited(dst, fd.Number(), func(dst []byte) ([]byte, error) { return w.one(dst, inner, nil, depth) })
		}
		switch w.peek() {
		case '{':
		case '[':
			return dst, w.wrong("Proto field is not repeating, cannot start list.")
		default:
			return dst, w.mismatch(fd)
		}
		return w.message(dst, fd, func(dst []byte) ([]byte, error) { return w.object(dst, d, bind, depth) })
	}
	t, err := w.value()
	if err != nil {
		return dst, err
	}
	if t.kind == composite {
		return dst, w.wrong("Proto field is not a message or a list")
	}
	if t.kind == null && fd.Enum() != nil {
		t = token{number, "0"}
	}
	dst, ok := scalar(protowire.AppendTag(dst, fd.Number(), wireType(fd.Kind())), fd, t, w.FoldEnums)
	if !ok {
		return dst, w.refuse(fd, t)
	}
	return dst, nil
}

// mismatch is the error for a value that is no object, where one must be.
func (w *writer) mismatch(fd protoreflect.FieldDescriptor) error {
	t, err := w.value()
	if err != nil {
		return err
	}
	return w.refuse(fd, t)
}

// wrapped returns the field of a message such as google.protobuf.Int32Value, which JSON
// writes as its value.
func wrapped(d protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	switch d.FullName() {
	case "google.protobuf.BoolValue", "google.protobuf.BytesValue", "google.protobuf.DoubleValue", "google.protobuf.FloatValue",
		"google.protobuf.Int32Value", "google.protobuf.Int64Value", "google.protobuf.StringValue",
		"google.protobuf.UInt32Value", "google.protobuf.UInt64Value":
		return d.Fields().ByNumber(1)
	}
	return nil
}

// wellKnown returns a message to read into, of those that JSON writes in ways of their own.
func wellKnown(d protoreflect.MessageDescriptor) proto.Message {
	switch d.FullName() {
	case "google.protobuf.Timestamp":
		return &timestamppb.Timestamp{}
	case "google.protobuf.Duration":
		return &durationpb.Duration{}
	case "google.protobuf.FieldMask":
		return &fieldmaskpb.FieldMask{}
	case "google.protobuf.Struct":
		return &structpb.Struct{}
	case "google.protobuf.Value":
		return &structpb.Value{}
	case "google.protobuf.ListValue":
		return &structpb.ListValue{}
	case "google.protobuf.Any":
		return &anypb.Any{}
	}
	return nil
}

// known reads a value into m.
func (w *writer) known(dst []byte, fd protoreflect.FieldDescriptor, m proto.Message, depth int) ([]byte, error) {
	raw, err := w.raw(depth)
	if err != nil {
		return dst, err
	}
	return w.parsed(dst, fd, m, raw)
}

func (w *writer) parsed(dst []byte, fd protoreflect.FieldDescriptor, m proto.Message, raw []byte) ([]byte, error) {
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true, AllowPartial: true, Resolver: w.Set.types}).Unmarshal(raw, m); err != nil {
		return dst, w.refuse(fd, token{text, strings.Trim(string(raw), `"`)})
	}
	return delimited(dst, fd.Number(), func(dst []byte) ([]byte, error) {
		switch m := m.(type) { // Envoy writes both fields of these
		case *timestamppb.Timestamp:
			return appendTime(dst, m.Seconds, m.Nanos), nil
		case *durationpb.Duration:
			return appendTime(dst, m.Seconds, m.Nanos), nil
		}
		return proto.MarshalOptions{Deterministic: true, AllowPartial: true}.MarshalAppend(dst, m)
	})
}

func appendTime(dst []byte, seconds int64, nanos int32) []byte {
	dst = protowire.AppendVarint(protowire.AppendTag(dst, 1, protowire.VarintType), uint64(seconds))
	return protowire.AppendVarint(protowire.AppendTag(dst, 2, protowire.VarintType), uint64(int64(nanos)))
}

// rest writes what is bound within a message and was not written yet.
func (w *writer) rest(dst []byte, bind *weave) (_ []byte, err error) {
	if bind == nil {
		return dst, nil
	}
	for _, b := range bind.fields {
		for _, v := range b.values {
			if dst, err = w.bound(dst, b.fd, v); err != nil {
				return dst, err
			}
		}
	}
	bind.fields = nil
	for _, k := range bind.kids {
		if k.w.empty() {
			continue
		}
		w.at = append(w.at, string(k.fd.Name()))
		dst, err = w.message(dst, k.fd, func(dst []byte) ([]byte, error) { return w.rest(dst, k.w) })
		if w.at = w.at[:len(w.at)-1]; err != nil {
			return dst, err
		}
	}
	bind.kids = nil
	return dst, nil
}

// bound writes a field from text.
func (w *writer) bound(dst []byte, fd protoreflect.FieldDescriptor, value string) ([]byte, error) {
	w.at = append(w.at, string(fd.Name()))
	defer func() { w.at = w.at[:len(w.at)-1] }()
	t := token{text, value}
	if d := fd.Message(); d != nil {
		if inner := wrapped(d); inner != nil {
			return delimited(dst, fd.Number(), func(dst []byte) ([]byte, error) { return w.bound(dst, inner, value) })
		}
		known := wellKnown(d)
		if known == nil || fd.IsMap() {
			return dst, w.refuse(fd, t)
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return dst, w.refuse(fd, t)
		}
		return w.parsed(dst, fd, known, raw)
	}
	dst, ok := scalar(protowire.AppendTag(dst, fd.Number(), wireType(fd.Kind())), fd, t, w.FoldEnums)
	if !ok {
		return dst, w.refuse(fd, t)
	}
	return dst, nil
}

func (w *writer) wrong(what string) error {
	return invalid(strings.Join(w.at, ".") + ": " + what)
}

// refuse says that a value is not one of the field.
func (w *writer) refuse(fd protoreflect.FieldDescriptor, t token) error {
	if t.kind == text {
		t.text = strconv.Quote(t.text)
	}
	return w.wrong("invalid value " + t.text + " for type " + typeName(fd))
}

// typeName is how Envoy calls a type.
func typeName(fd protoreflect.FieldDescriptor) string {
	if d := fd.Message(); d != nil {
		return "type.googleapis.com/" + string(d.FullName())
	}
	if d := fd.Enum(); d != nil {
		return "type.googleapis.com/" + string(d.FullName())
	}
	return "TYPE_" + strings.ToUpper(fd.Kind().String())
}
