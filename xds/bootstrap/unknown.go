package bootstrap

import (
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Unknown lists where m, which came in binary, carries fields its linked schema
// doesn't know: one Finding for each message that has some, at most 100. Any
// fields are not looked into. Envoy counts these for dynamic resources
// (server.dynamic_unknown_fields) and refuses them in static ones.
func Unknown(m proto.Message, path string) []Finding {
	var found []Finding
	unknownIn(m.ProtoReflect(), path, &found)
	return found
}

func unknownIn(m protoreflect.Message, path string, found *[]Finding) {
	if len(*found) >= maxFindings {
		return
	}
	if raw := m.GetUnknown(); len(raw) > 0 {
		*found = append(*found, Finding{Path: path, Text: "unknown fields of " + string(m.Descriptor().FullName()) + " (" + strconv.Itoa(len(raw)) + " bytes)"})
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := string(fd.Name())
		if path != "" {
			at = path + "." + at
		}
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
					unknownIn(e.Message(), at+"["+strconv.Quote(k.String())+"]", found)
					return true
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				unknownIn(v.List().Get(i).Message(), at+"["+strconv.Itoa(i)+"]", found)
			}
		default:
			unknownIn(v.Message(), at, found)
		}
		return true
	})
}
