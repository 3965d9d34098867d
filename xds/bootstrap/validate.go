package bootstrap

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// violation is what the generated constraint checks return for one field.
type violation interface {
	error
	Field() string
	Reason() string
	Cause() error
}

// Validate checks the constraints written in m's schema (validate.rules),
// without looking into Any fields: whoever unpacks one validates it. Findings
// carry path and what was expected; the error is an *Error or nil.
func Validate(m proto.Message, path string) error {
	d := newDecoder("", Options{Path: path})
	d.constraints(nil, m)
	return d.err()
}

// constraints checks m, which was read from n (nil when it has no text).
func (d *decoder) constraints(n *node, m proto.Message) {
	all, ok := m.(interface{ ValidateAll() error })
	if !ok {
		return
	}
	if err := all.ValidateAll(); err != nil {
		var line int32
		if n != nil {
			line = n.line
		}
		d.violations(err, m.ProtoReflect().Descriptor(), n, line)
	}
}

// violations turns the nested errors of the generated checks into findings. n
// is where md's value was written, as far as that is known; line is the closest
// line known.
func (d *decoder) violations(err error, md protoreflect.MessageDescriptor, n *node, line int32) {
	if list, ok := err.(interface{ AllErrors() []error }); ok {
		for _, e := range list.AllErrors() {
			d.violations(e, md, n, line)
		}
		return
	}
	v, ok := err.(violation)
	if !ok {
		d.problem(line, "%s", err)
		return
	}
	name, index, _ := strings.Cut(v.Field(), "[")
	index = strings.TrimSuffix(index, "]")
	fd := fieldByGoName(md, name)
	if fd == nil {
		d.oneofViolation(v, md, name, line)
		return
	}
	mark := d.enter(string(fd.Name()))
	defer d.leave(mark)
	n, line = child(n, line, fd)
	if index != "" {
		n, line = d.enterElement(fd, index, n, line)
	}
	sub := fd.Message()
	if fd.IsMap() {
		sub = fd.MapValue().Message()
	}
	if nested := v.Cause(); nested != nil && sub != nil && isViolation(nested) {
		d.violations(nested, sub, n, line)
		return
	}
	d.problem(line, "%s", reason(v))
}

// oneofViolation reports that none of a oneof's fields is set.
func (d *decoder) oneofViolation(v violation, md protoreflect.MessageDescriptor, name string, line int32) {
	ods := md.Oneofs()
	for i := range ods.Len() {
		if !sameName(string(ods.Get(i).Name()), name) {
			continue
		}
		var choices []string
		for j := range ods.Get(i).Fields().Len() {
			fd := ods.Get(i).Fields().Get(j)
			if !strings.HasPrefix(string(fd.Name()), "hidden_envoy_deprecated_") {
				choices = append(choices, string(fd.Name()))
			}
		}
		d.problem(line, "one of %s must be set", strings.Join(choices, ", "))
		return
	}
	d.problem(line, "%s: %s", name, reason(v))
}

func isViolation(err error) bool {
	switch err.(type) {
	case violation, interface{ AllErrors() []error }:
		return true
	}
	return false
}

// reason is the constraint in words, with the cause the check itself met.
func reason(v violation) string {
	text := v.Reason()
	switch text {
	case "value length must be at least 1 runes", "value length must be at least 1 bytes":
		text = "must not be empty"
	case "value must contain at least 1 item(s)":
		text = "needs at least one item"
	default:
		text = strings.TrimPrefix(text, "value ")
	}
	if c := v.Cause(); c != nil {
		text += ": " + c.Error()
	}
	return text
}

// child steps from the object n to its field fd.
func child(n *node, line int32, fd protoreflect.FieldDescriptor) (*node, int32) {
	if n == nil || n.kind != kindMap {
		return nil, line
	}
	c := n.get(string(fd.Name()))
	if c == nil {
		c = n.get(fd.JSONName())
	}
	if c == nil {
		return nil, line
	}
	return c, c.line
}

// enterElement extends the path by an element of a list or map, and steps into
// it. A list field written as a single object is its own element.
func (d *decoder) enterElement(fd protoreflect.FieldDescriptor, index string, n *node, line int32) (*node, int32) {
	if fd.IsMap() {
		d.enterKey(index)
		if n == nil || n.kind != kindMap {
			return nil, line
		}
		if c := n.get(index); c != nil {
			return c, c.line
		}
		return nil, line
	}
	i, err := strconv.Atoi(index)
	if err != nil {
		return nil, line
	}
	if n != nil && n.kind != kindList && n.kind != kindNull {
		return n, line
	}
	d.enterIndex(i)
	if n == nil || n.kind != kindList || i < 0 || i >= len(n.items) {
		return nil, line
	}
	return n.items[i], n.items[i].line
}

// fieldByGoName finds FilterChains (or, for a oneof, ClusterSpecifier) in md.
func fieldByGoName(md protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	fds := md.Fields()
	for i := range fds.Len() {
		if sameName(string(fds.Get(i).Name()), name) {
			return fds.Get(i)
		}
	}
	return nil
}

// sameName compares snake_case with GoCase.
func sameName(snake, camel string) bool {
	return strings.EqualFold(strings.ReplaceAll(snake, "_", ""), strings.ReplaceAll(camel, "_", ""))
}
