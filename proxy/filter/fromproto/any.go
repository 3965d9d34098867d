package fromproto

import (
	"errors"
	"fmt"
	"strings"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// The two spellings of a configuration whose type the sender did not have.
const (
	udpaTypedStruct = "udpa.type.v1.TypedStruct"
	xdsTypedStruct  = "xds.type.v3.TypedStruct"
)

// Any returns the type and bytes of a typed_config. A TypedStruct is unwrapped: its
// struct is converted to the message that its inner URL names, if this build has it, or
// stays a Struct for a type of mecha's own (see Own); otherwise the value is empty, and the
// type is refused by whoever looks it up.
func Any(a *anypb.Any) (filter.Any, error) {
	if a == nil {
		return filter.Any{}, errors.New("is required")
	}
	name := TypeName(a.TypeUrl)
	switch name {
	case udpaTypedStruct:
		var ts udpav1.TypedStruct
		if err := proto.Unmarshal(a.Value, &ts); err != nil {
			return filter.Any{}, fmt.Errorf("TypedStruct: %w", err)
		}
		return fromStruct(ts.TypeUrl, ts.Value)
	case xdsTypedStruct:
		var ts xdsv3.TypedStruct
		if err := proto.Unmarshal(a.Value, &ts); err != nil {
			return filter.Any{}, fmt.Errorf("TypedStruct: %w", err)
		}
		return fromStruct(ts.TypeUrl, ts.Value)
	}
	return filter.Any{Type: name, Value: a.Value}, nil
}

// TypeName cuts the host off a type URL.
func TypeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

func fromStruct(url string, value *structpb.Struct) (filter.Any, error) {
	name := TypeName(url)
	if strings.HasPrefix(name, ownTypes) {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(value)
		return filter.Any{Type: name, Value: raw}, err
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(url)
	if err != nil {
		return filter.Any{Type: name}, nil
	}
	text, err := protojson.Marshal(value)
	if err != nil {
		return filter.Any{}, filter.At("value", err)
	}
	m := mt.New().Interface()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, m); err != nil {
		return filter.Any{}, filter.At("value", fmt.Errorf("%s: %w", name, err))
	}
	raw, err := proto.Marshal(m)
	return filter.Any{Type: name, Value: raw}, err
}
