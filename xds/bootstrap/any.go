package bootstrap

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	udpa "github.com/cncf/xds/go/udpa/type/v1"
	xdstype "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// typePrefix is what the type URLs mecha writes start with.
const typePrefix = "type.googleapis.com/"

// any packs the object n, whose "@type" says what it is, into x.
func (d *decoder) any(n *node, x *anypb.Any) {
	switch {
	case n.kind == kindNull, n.kind == kindMap && len(n.fields) == 0:
		return
	case n.kind != kindMap:
		d.problem(n.line, `expected an object with an "@type", got %s`, n.describe())
		return
	}
	url, ok := d.typeURL(n)
	if !ok {
		return
	}
	mt, err := d.resolver.FindMessageByURL(url)
	if err != nil {
		d.unknownType(n, url, x)
		return
	}
	before := len(d.problems)
	m := mt.New()
	d.anyFields(n, m)
	if len(d.problems) > before {
		return
	}
	if !d.o.SkipConstraints {
		d.constraints(n, m.Interface())
	}
	d.typedStruct(n, m.Interface())
	d.pack(n, url, m.Interface(), x)
}

// typeURL reads "@type" and insists on the form prefix/full.name.
func (d *decoder) typeURL(n *node) (string, bool) {
	t := n.get("@type")
	if t == nil {
		d.problem(n.line, `"@type" is missing: it names the type of this object, such as %senvoy.extensions.filters.http.router.v3.Router`, typePrefix)
		return "", false
	}
	mark := d.enter("@type")
	defer d.leave(mark)
	host, name, slash := strings.Cut(t.text, "/")
	switch {
	case t.kind != kindString:
		d.problem(t.line, "expected a type URL, got %s", t.describe())
		return "", false
	case !slash || host == "" || name == "":
		d.problem(t.line, "expected a type URL such as %senvoy.extensions.filters.http.router.v3.Router, got %s", typePrefix, t.describe())
		return "", false
	}
	return t.text, true
}

// anyFields fills m from n without its "@type". Messages with a JSON form of
// their own have it under "value".
func (d *decoder) anyFields(n *node, m protoreflect.Message) {
	if hasOwnForm(m.Descriptor()) {
		if v := n.get("value"); v != nil {
			mark := d.enter("value")
			d.message(v, m)
			d.leave(mark)
		}
		return
	}
	rest := &node{kind: kindMap, line: n.line, fields: make([]member, 0, len(n.fields))}
	for _, f := range n.fields {
		if f.key != "@type" {
			rest.fields = append(rest.fields, f)
		}
	}
	d.message(rest, m)
}

func hasOwnForm(md protoreflect.MessageDescriptor) bool {
	return md.ParentFile().Package() == "google.protobuf" && md.Name() != "Empty"
}

// ownTypes is what the names of mecha's own types begin with: they travel as a TypedStruct.
const ownTypes = "mecha."

// unknownType handles an Any whose type isn't linked.
func (d *decoder) unknownType(n *node, url string, x *anypb.Any) {
	if !d.o.KeepUnknownTypes {
		mark := d.enter("@type")
		d.problem(n.get("@type").line, "unknown type %s: this build of mecha has no such extension", clip(url))
		d.leave(mark)
		return
	}
	if !strings.HasPrefix(url, typePrefix+ownTypes) {
		d.report.UnknownTypes++
		d.warnAt(n.line, "unknown type %s, kept as a TypedStruct", clip(url))
	}
	value := valueOf(n).GetStructValue()
	delete(value.Fields, "@type")
	wrapped := &xdstype.TypedStruct{TypeUrl: url, Value: value}
	d.pack(n, typePrefix+string(wrapped.ProtoReflect().Descriptor().FullName()), wrapped, x)
}

// pack marshals deterministically: two loads of one file give equal bytes, so a
// reload can tell what changed.
func (d *decoder) pack(n *node, url string, m proto.Message, x *anypb.Any) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		d.problem(n.line, "cannot be encoded: %v", err)
		return
	}
	x.TypeUrl, x.Value = url, b
}

// typedStruct checks the value of a TypedStruct against the type it names, so
// that a mistake in it is found here, with its line. The message stays as it is.
func (d *decoder) typedStruct(n *node, m proto.Message) {
	url, _, ok := typedStructOf(m)
	if !ok {
		return
	}
	mt, err := d.resolver.FindMessageByURL(url)
	if err != nil {
		d.report.UnknownTypes++
		d.warnAt(n.line, "unknown type %s inside the TypedStruct", clip(url))
		return
	}
	v := n.get("value")
	if v == nil || v.kind != kindMap {
		return
	}
	mark := d.enter("value")
	defer d.leave(mark)
	before := len(d.problems)
	inner := mt.New()
	d.message(v, inner)
	if len(d.problems) == before && !d.o.SkipConstraints {
		d.constraints(v, inner.Interface())
	}
}

// TypedStructOf looks into an Any that holds a TypedStruct (udpa.type.v1 or
// xds.type.v3) and returns the type it names and its fields. ok is false for
// any other Any, and for bytes that are not the TypedStruct they claim to be.
func TypedStructOf(a *anypb.Any) (typeURL string, fields *structpb.Struct, ok bool) {
	var m proto.Message
	switch a.MessageName() {
	case "udpa.type.v1.TypedStruct":
		m = new(udpa.TypedStruct)
	case "xds.type.v3.TypedStruct":
		m = new(xdstype.TypedStruct)
	default:
		return "", nil, false
	}
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return "", nil, false
	}
	return typedStructOf(m)
}

func typedStructOf(m proto.Message) (string, *structpb.Struct, bool) {
	switch t := m.(type) {
	case *udpa.TypedStruct:
		return t.GetTypeUrl(), t.GetValue(), true
	case *xdstype.TypedStruct:
		return t.GetTypeUrl(), t.GetValue(), true
	}
	return "", nil, false
}

// Unwrap returns the message an Any carries, converting the Struct of a
// TypedStruct to the type it names. Constraints are checked unless
// o.SkipConstraints says not to; unknown fields inside a TypedStruct follow
// o.AllowUnknownFields. A type that is not linked is an *Error whose finding
// names it; TypedStructOf then still gives its fields.
func Unwrap(a *anypb.Any, o Options) (proto.Message, Report, error) {
	d := newDecoder("", o)
	url, fields, wrapped := TypedStructOf(a)
	if !wrapped {
		url = a.GetTypeUrl()
	}
	mt, err := d.resolver.FindMessageByURL(url)
	if err != nil {
		return nil, d.report, refuse("", 0, o.Path, "unknown type %s: this build of mecha has no such extension", cmp.Or(clip(url), `""`))
	}
	m := mt.New().Interface()
	if !wrapped {
		if err := proto.Unmarshal(a.GetValue(), m); err != nil {
			return nil, d.report, refuse("", 0, o.Path, "the bytes are not a %s: %v", m.ProtoReflect().Descriptor().FullName(), err)
		}
		if !o.SkipConstraints {
			d.constraints(nil, m)
		}
		return finish(d, m)
	}
	n, ok := structNode(fields, 0)
	if !ok {
		return nil, d.report, refuse("", 0, o.Path, "the TypedStruct nests more than %d levels deep", maxDepth)
	}
	d.root(n, m)
	return finish(d, m)
}

func finish(d *decoder, m proto.Message) (proto.Message, Report, error) {
	if err := d.err(); err != nil {
		return nil, d.report, err
	}
	return m, d.report, nil
}

func sortedKeys(m map[string]*structpb.Value) []string {
	return slices.Sorted(maps.Keys(m))
}
