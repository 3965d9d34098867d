// Package fromproto turns the protobuf messages that several filters and resources
// share (matchers, header mutations, durations, access logs, route configurations)
// into plain values. It is the third place, beside xds/ and each filter's config.go,
// that sees protobuf: filters may not import xds, and nobody should write these
// conversions twice.
package fromproto

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Fields says what a piece of configuration code does with the fields of a message.
type Fields struct {
	Used    []string // handled
	Ignored []string // accepted with a warning: harmless to be without
}

// Check refuses, by name, any populated field of msg that the code does not handle:
// configuration that would silently have no effect is worse than an error. What is
// ignored is noted in p (which may be nil).
func Check(msg proto.Message, p *filter.Parser, fields Fields) error {
	var err error
	msg.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		name := string(fd.Name())
		switch {
		case slices.Contains(fields.Used, name):
		case slices.Contains(fields.Ignored, name):
			if p != nil {
				p.Warnings = append(p.Warnings, fmt.Sprintf("%s.%s has no effect in this build", msg.ProtoReflect().Descriptor().Name(), name))
			}
		default:
			err = filter.At(name, fmt.Errorf("this build does not support the field %s of %s", name, msg.ProtoReflect().Descriptor().FullName()))
			return false
		}
		return true
	})
	return err
}
