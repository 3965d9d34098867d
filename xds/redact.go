package xds

import (
	"strings"

	"github.com/cncf/xds/go/udpa/annotations"
	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// redacted stands where a secret was, as in Envoy.
const redacted = "[redacted]"

// shown prepares messages for being shown: what cannot be decoded is replaced by a
// note, what is marked as sensitive (udpa.annotations.sensitive) is taken out, also in
// messages that are packed in others.
type shown struct {
	// each sees every message, after its fields; nil sees none.
	each func(proto.Message)
}

// any returns a with the message in it prepared.
func (s shown) any(a *anypb.Any, secret bool) *anypb.Any {
	if a == nil {
		return nil
	}
	msg, err := a.UnmarshalNew()
	if err != nil {
		return note(a)
	}
	s.message(msg.ProtoReflect(), secret)
	out := &anypb.Any{TypeUrl: a.TypeUrl}
	if out.Value, err = (proto.MarshalOptions{Deterministic: true}).Marshal(msg); err != nil {
		return note(a)
	}
	return out
}

// message prepares m in place. With secret everything in it is sensitive.
func (s shown) message(m protoreflect.Message, secret bool) {
	switch x := m.Interface().(type) {
	case *anypb.Any:
		ready := s.any(x, secret)
		proto.Reset(x)
		proto.Merge(x, ready)
		return
	case *udpav1.TypedStruct:
		s.typedStruct(x.TypeUrl, &x.Value, secret)
		return
	case *xdsv3.TypedStruct:
		s.typedStruct(x.TypeUrl, &x.Value, secret)
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		s.field(m, fd, v, secret || sensitive(fd))
		return true
	})
	if s.each != nil {
		s.each(m.Interface())
	}
}

func sensitive(fd protoreflect.FieldDescriptor) bool {
	yes, ok := proto.GetExtension(fd.Options(), annotations.E_Sensitive).(bool)
	return ok && yes
}

func (s shown) field(m protoreflect.Message, fd protoreflect.FieldDescriptor, v protoreflect.Value, secret bool) {
	switch {
	case fd.IsMap():
		if fd.MapValue().Message() == nil {
			if secret {
				hideMap(v.Map(), fd.MapValue())
			}
			return
		}
		v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
			s.message(e.Message(), secret)
			return true
		})
	case fd.Message() != nil && fd.IsList():
		for i := range v.List().Len() {
			s.message(v.List().Get(i).Message(), secret)
		}
	case fd.Message() != nil:
		s.message(v.Message(), secret)
	case !secret:
	case fd.IsList():
		hideList(m, fd, v.List())
	default:
		if stand := standIn(fd); stand.IsValid() {
			m.Set(fd, stand)
		} else {
			m.Clear(fd)
		}
	}
}

// standIn returns what is shown for a sensitive value, nothing for numbers and the like.
func standIn(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(redacted)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(redacted))
	}
	return protoreflect.Value{}
}

func hideList(m protoreflect.Message, fd protoreflect.FieldDescriptor, list protoreflect.List) {
	stand := standIn(fd)
	if !stand.IsValid() {
		m.Clear(fd)
		return
	}
	for i := range list.Len() {
		list.Set(i, stand)
	}
}

func hideMap(values protoreflect.Map, fd protoreflect.FieldDescriptor) {
	stand := standIn(fd)
	var keys []protoreflect.MapKey
	values.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	for _, k := range keys {
		if stand.IsValid() {
			values.Set(k, stand)
		} else {
			values.Clear(k)
		}
	}
}

// typedStruct prepares the struct that stands for a message of a known type. Of other
// types nothing is known to be sensitive.
func (s shown) typedStruct(url string, value **structpb.Struct, secret bool) {
	if secret {
		*value = nil
		return
	}
	name := url[strings.LastIndexByte(url, '/')+1:]
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return
	}
	text, err := protojson.Marshal(*value)
	if err != nil {
		return
	}
	msg := t.New().Interface()
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, msg) != nil {
		return
	}
	before := proto.Clone(msg)
	s.message(msg.ProtoReflect(), false)
	if proto.Equal(before, msg) {
		return // it stays as its author wrote it
	}
	out := &structpb.Struct{}
	if text, err = (protojson.MarshalOptions{UseProtoNames: true}).Marshal(msg); err == nil {
		err = protojson.Unmarshal(text, out)
	}
	if err != nil {
		out = nil // rather nothing than a secret
	}
	*value = out
}
