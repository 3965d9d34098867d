package bootstrap

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A Resolver finds the message type an Any names. *protoregistry.Types is one.
type Resolver interface {
	FindMessageByURL(url string) (protoreflect.MessageType, error)
}

// Options says how strictly Decode reads.
type Options struct {
	// AllowUnknownFields drops fields and enum values that no linked schema
	// knows, with a warning each, instead of refusing the file: what
	// --allow-unknown-static-fields asks for, and the rule for resources that
	// come at run time.
	AllowUnknownFields bool
	// KeepUnknownTypes keeps an Any whose @type isn't linked as a TypedStruct
	// (xds.type.v3) that names the type and holds its fields, for the consumer
	// to refuse, skip or understand by name. Without it such an Any is an error.
	KeepUnknownTypes bool
	// SkipConstraints leaves out the constraints written in the schema (minimum
	// lengths, required fields). Merging callers check the merged message.
	SkipConstraints bool
	// IgnoreDeprecated leaves deprecated fields out of Report.Warnings; they
	// are still counted (--skip-deprecated-logs).
	IgnoreDeprecated bool
	// Path is what paths in messages start with; empty for a bootstrap.
	Path string
	// Resolver finds types by URL; nil takes every type linked into the binary.
	Resolver Resolver
}

// Decode reads one message from src into into, which it resets first. It
// accepts what Envoy accepts: see the package comment. The error is an *Error;
// the Report is also filled when there is one.
func Decode(src Source, into proto.Message, o Options) (Report, error) {
	proto.Reset(into)
	switch src.format() {
	case FormatBinary:
		return decodeBinary(src, into, o)
	case FormatText:
		return decodeText(src, into, o)
	}
	docs, err := src.tree()
	if err != nil {
		return Report{}, err
	}
	d := newDecoder(src.Name, o)
	if len(docs) > 1 {
		d.warnAt(docs[1].line, "only the first document of the file is read; this is the second")
	}
	d.root(docs[0], into)
	return d.report, d.err()
}

// decodeBinary reads the wire format.
func decodeBinary(src Source, into proto.Message, o Options) (Report, error) {
	if err := proto.Unmarshal(src.Data, into); err != nil {
		return Report{}, refuse(src.Name, 0, "", "not a binary %s: %v", into.ProtoReflect().Descriptor().FullName(), err)
	}
	return checkParsed(src, into, o)
}

// decodeText reads protobuf's own text format.
func decodeText(src Source, into proto.Message, o Options) (Report, error) {
	u := prototext.UnmarshalOptions{DiscardUnknown: o.AllowUnknownFields}
	if err := u.Unmarshal(src.Data, into); err != nil {
		text := strings.TrimSpace(strings.TrimPrefix(err.Error(), "proto:"))
		return Report{}, refuse(src.Name, 0, "", "not the text format of %s: %s", into.ProtoReflect().Descriptor().FullName(), text)
	}
	return checkParsed(src, into, o)
}

// checkParsed does for a message that came without positions what the decoder
// does on the way.
func checkParsed(src Source, into proto.Message, o Options) (Report, error) {
	var rep Report
	for _, f := range Unknown(into, o.Path) {
		f.File = src.Name
		if !o.AllowUnknownFields {
			return rep, &Error{Findings: []Finding{f}}
		}
		rep.UnknownFields++
		rep.warn(f)
	}
	if o.SkipConstraints {
		return rep, nil
	}
	return rep, Validate(into, o.Path)
}

// decoder carries one Decode. It goes on after a problem, so that one run can
// show everything that is wrong.
type decoder struct {
	file     string
	o        Options
	resolver Resolver
	path     []byte
	report   Report
	problems []Finding
}

func newDecoder(file string, o Options) *decoder {
	d := &decoder{file: file, o: o, resolver: o.Resolver, path: []byte(o.Path)}
	if d.resolver == nil {
		d.resolver = protoregistry.GlobalTypes
	}
	return d
}

func (d *decoder) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	return &Error{Findings: d.problems}
}

// problem records that the value on line is wrong, at the current path.
func (d *decoder) problem(line int32, format string, args ...any) {
	if len(d.problems) < maxFindings {
		d.problems = append(d.problems, d.finding(line, fmt.Sprintf(format, args...)))
	}
}

func (d *decoder) warnAt(line int32, format string, args ...any) {
	d.report.warn(d.finding(line, fmt.Sprintf(format, args...)))
}

func (d *decoder) finding(line int32, text string) Finding {
	return Finding{File: d.file, Line: int(line), Path: string(d.path), Text: text}
}

// enter appends a field name to the path and returns what to leave to.
func (d *decoder) enter(name string) int {
	mark := len(d.path)
	if mark > 0 {
		d.path = append(d.path, '.')
	}
	d.path = append(d.path, name...)
	return mark
}

func (d *decoder) enterIndex(i int) int {
	mark := len(d.path)
	d.path = append(d.path, '[')
	d.path = strconv.AppendInt(d.path, int64(i), 10)
	d.path = append(d.path, ']')
	return mark
}

func (d *decoder) enterKey(key string) int {
	mark := len(d.path)
	d.path = append(d.path, '[')
	d.path = strconv.AppendQuote(d.path, clip(key))
	d.path = append(d.path, ']')
	return mark
}

func (d *decoder) leave(mark int) { d.path = d.path[:mark] }

// root decodes the document n and checks its constraints.
func (d *decoder) root(n *node, into proto.Message) {
	if n.kind == kindNull {
		d.problem(n.line, "the file is empty")
		return
	}
	before := len(d.problems)
	d.message(n, into.ProtoReflect())
	if !d.o.SkipConstraints && len(d.problems) == before {
		d.constraints(n, into)
	}
}

// message fills m from n.
func (d *decoder) message(n *node, m protoreflect.Message) {
	if d.wellKnown(n, m) {
		return
	}
	switch n.kind {
	case kindNull:
		return
	case kindMap:
		d.fields(n, m)
	case kindList:
		d.problem(n.line, "expected an object (%s), got a list%s", m.Descriptor().FullName(), listHint(n))
	default:
		d.problem(n.line, "expected an object (%s), got %s%s", m.Descriptor().FullName(), n.describe(), objectHint(n, m.Descriptor()))
	}
}

func listHint(n *node) string {
	if len(n.items) == 1 {
		return " (write its one item without the brackets or dash)"
	}
	return ""
}

// objectHint shows how to write a scalar where the schema wraps it.
func objectHint(n *node, md protoreflect.MessageDescriptor) string {
	fd := md.Fields().ByName("value")
	if fd == nil || fd.IsList() || fd.IsMap() || fd.Message() != nil {
		return ""
	}
	v := clip(n.written())
	if n.kind == kindString && fd.Kind() == protoreflect.StringKind {
		v = strconv.Quote(v)
	}
	return " (write it as {value: " + v + "})"
}

func (d *decoder) fields(n *node, m protoreflect.Message) {
	fds := m.Descriptor().Fields()
	for i := range n.fields {
		f := &n.fields[i]
		fd := fds.ByName(protoreflect.Name(f.key))
		if fd == nil {
			fd = fds.ByJSONName(f.key)
		}
		if fd == nil {
			d.unknownField(f, m)
			continue
		}
		mark := d.enter(string(fd.Name()))
		if f.again {
			d.warnAt(f.line, "key %q is given twice in this object", clip(f.key))
		}
		d.field(f.val, m, fd)
		d.leave(mark)
	}
}

func (d *decoder) field(n *node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	if n.kind == kindNull && !takesNull(fd) {
		return
	}
	d.deprecated(n.line, fd)
	if od := fd.ContainingOneof(); od != nil {
		if other := m.WhichOneof(od); other != nil {
			d.oneofTwice(n, fd, other, od)
			return
		}
	}
	switch {
	case fd.IsMap():
		d.mapField(n, m, fd)
	case fd.IsList():
		d.listField(n, m, fd)
	case fd.Message() != nil:
		d.message(n, m.Mutable(fd).Message())
	default:
		if v, ok := d.scalar(n, fd); ok {
			m.Set(fd, v)
		}
	}
}

// takesNull tells whether null is a value of the field rather than its absence.
func takesNull(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Value"
}

func (d *decoder) oneofTwice(n *node, fd, other protoreflect.FieldDescriptor, od protoreflect.OneofDescriptor) {
	if fd == other {
		d.problem(n.line, "is given twice; only one value of %s may be set", od.Name())
		return
	}
	d.problem(n.line, "%s and %s are both set; only one of them may be (%s)", other.Name(), fd.Name(), od.Name())
}

// listField appends to the repeated field fd. A value that isn't a list is a
// list of one, as several control planes write it.
func (d *decoder) listField(n *node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	list := m.Mutable(fd).List()
	if n.kind != kindList {
		d.listItem(n, list, fd)
		return
	}
	for i, item := range n.items {
		mark := d.enterIndex(i)
		d.listItem(item, list, fd)
		d.leave(mark)
	}
}

func (d *decoder) listItem(n *node, list protoreflect.List, fd protoreflect.FieldDescriptor) {
	if fd.Message() != nil {
		d.message(n, list.AppendMutable().Message())
		return
	}
	if n.kind == kindNull {
		d.problem(n.line, "the list item is empty")
		return
	}
	if v, ok := d.scalar(n, fd); ok {
		list.Append(v)
	}
}

func (d *decoder) mapField(n *node, m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	if n.kind != kindMap {
		d.problem(n.line, "expected an object with a key for each entry, got %s", n.describe())
		return
	}
	entries := m.Mutable(fd).Map()
	for i := range n.fields {
		f := &n.fields[i]
		mark := d.enterKey(f.key)
		d.mapEntry(f, entries, fd)
		d.leave(mark)
	}
}

func (d *decoder) mapEntry(f *member, entries protoreflect.Map, fd protoreflect.FieldDescriptor) {
	k, ok := d.scalar(&node{kind: kindString, line: f.line, text: f.key}, fd.MapKey())
	if !ok {
		return
	}
	if vd := fd.MapValue(); vd.Message() == nil {
		if f.val.kind == kindNull {
			entries.Set(k.MapKey(), vd.Default())
			return
		}
		if v, ok := d.scalar(f.val, vd); ok {
			entries.Set(k.MapKey(), v)
		}
		return
	}
	v := entries.NewValue()
	d.message(f.val, v.Message())
	entries.Set(k.MapKey(), v)
}

// unknownField handles a key the schema does not have. A likely misspelling is
// read as what was meant, to find what is wrong inside it too; the message is
// refused in any case.
func (d *decoder) unknownField(f *member, m protoreflect.Message) {
	md := m.Descriptor()
	mark := d.enter(f.key)
	defer d.leave(mark)
	if d.o.AllowUnknownFields {
		d.report.UnknownFields++
		d.warnAt(f.line, "unknown field of %s, ignored", md.FullName())
		return
	}
	meant := nearestField(f.key, md)
	if meant == nil {
		d.problem(f.line, "%s has no such field", md.FullName())
		return
	}
	d.problem(f.line, "%s has no such field; did you mean %s?", md.FullName(), meant.Name())
	if !m.Has(meant) {
		d.field(f.val, m, meant)
	}
}

// deprecated counts and reports the use of a field its schema marks so.
func (d *decoder) deprecated(line int32, fd protoreflect.FieldDescriptor) {
	opts, _ := fd.Options().(*descriptorpb.FieldOptions)
	if !opts.GetDeprecated() {
		return
	}
	d.report.Deprecated++
	if !d.o.IgnoreDeprecated {
		d.warnAt(line, "deprecated field of %s", fd.ContainingMessage().FullName())
	}
}
