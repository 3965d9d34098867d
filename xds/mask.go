package xds

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// fieldMask is a google.protobuf.FieldMask as admin's ?mask= writes it: paths of
// snake_case names, separated by commas.
type fieldMask []string

func parseMask(s string) fieldMask {
	var m fieldMask
	for path := range strings.SplitSeq(s, ",") {
		if path != "" {
			m = append(m, path)
		}
	}
	return m
}

// trim leaves only what the mask names in msg. A path may lead into the message in a
// google.protobuf.Any, for one such field of msg. It reports whether the mask fits the
// message; msg is half done if not.
func (m fieldMask) trim(msg protoreflect.Message) bool {
	var packed protoreflect.FieldDescriptor
	var outer, inner fieldMask
	for _, path := range m {
		name, rest, _ := strings.Cut(path, ".")
		fd := msg.Descriptor().Fields().ByName(protoreflect.Name(name))
		if fd == nil || fd.IsList() || fd.IsMap() || fd.Message() == nil || fd.Message().FullName() != "google.protobuf.Any" {
			outer = append(outer, path)
			continue
		}
		if packed != nil && packed != fd {
			return false
		}
		packed = fd
		outer = append(outer, name)
		if rest != "" {
			inner = append(inner, rest)
		}
	}
	if len(inner) > 0 && msg.Has(packed) && !trimPacked(msg.Mutable(packed).Message().Interface(), inner) {
		return false
	}
	for _, path := range outer {
		if !fits(msg.Descriptor(), path) {
			return false
		}
	}
	keep(msg, outer)
	return true
}

// trimPacked trims the message in an Any.
func trimPacked(any proto.Message, m fieldMask) bool {
	a, ok := any.(*anypb.Any)
	if !ok {
		return false
	}
	in, err := a.UnmarshalNew()
	if err != nil || !m.trim(in.ProtoReflect()) {
		return false
	}
	return a.MarshalFrom(in) == nil
}

// fits reports whether a path leads to a field: through single messages to anything.
func fits(d protoreflect.MessageDescriptor, path string) bool {
	name, rest, more := strings.Cut(path, ".")
	fd := d.Fields().ByName(protoreflect.Name(name))
	switch {
	case fd == nil:
		return false
	case !more:
		return true
	}
	return fd.Message() != nil && !fd.IsList() && !fd.IsMap() && fits(fd.Message(), rest)
}

// keep clears every field that no path names.
func keep(msg protoreflect.Message, paths []string) {
	msg.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		var below []string
		named, whole := false, false
		for _, p := range paths {
			if name, rest, more := strings.Cut(p, "."); name == string(fd.Name()) {
				named, whole = true, whole || !more
				below = append(below, rest)
			}
		}
		switch {
		case !named:
			msg.Clear(fd)
		case !whole:
			keep(msg.Mutable(fd).Message(), below)
		}
		return true
	})
}

// String returns the mask in the text form of protobuf.
func (m fieldMask) String() string {
	var sb strings.Builder
	for i, p := range m {
		if i > 0 {
			sb.WriteByte(' ')
		}
		fmt.Fprintf(&sb, "paths: %q", p)
	}
	return sb.String()
}
