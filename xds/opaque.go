package xds

import (
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

// note stands in for a message of a type that this build does not have.
func note(a *anypb.Any) *anypb.Any {
	out, err := anypb.New(structpb.NewStringValue("a message of the type " + a.GetTypeUrl() + ", which this build does not know"))
	if err != nil {
		return &anypb.Any{}
	}
	return out
}
