package xds

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// opaque resolves the types that this build knows and stands a struct in for others,
// so that one unknown extension does not cost the whole dump.
type opaque struct{}

func (opaque) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByURL(url)
}

func (opaque) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByName(name)
}

func (opaque) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByName(name)
}

func (opaque) FindExtensionByNumber(message protoreflect.FullName, n protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return protoregistry.GlobalTypes.FindExtensionByNumber(message, n)
}

// visible returns a with every Any in it that cannot be shown replaced by a note.
func visible(a *anypb.Any) *anypb.Any {
	if a == nil {
		return nil
	}
	msg, err := a.UnmarshalNew()
	if err != nil {
		return note(a)
	}
	hide(msg.ProtoReflect())
	out, err := anypb.New(msg)
	if err != nil {
		return note(a)
	}
	return out
}

// note stands in for a message of a type that this build does not have.
func note(a *anypb.Any) *anypb.Any {
	out, err := anypb.New(structpb.NewStringValue("a message of the type " + a.GetTypeUrl() + ", which this build does not know"))
	if err != nil {
		return &anypb.Any{}
	}
	return out
}

// hide walks a message and replaces what cannot be shown.
func hide(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
				hideMessage(e.Message())
				return true
			})
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				hideMessage(v.List().Get(i).Message())
			}
		default:
			hideMessage(v.Message())
		}
		return true
	})
}

func hideMessage(m protoreflect.Message) {
	a, ok := m.Interface().(*anypb.Any)
	if !ok {
		hide(m)
		return
	}
	shown := visible(a)
	proto.Reset(a)
	proto.Merge(a, shown)
}
