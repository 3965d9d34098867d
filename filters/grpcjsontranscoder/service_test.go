package grpcjsontranscoder_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// bookstore runs the service of testdata/bookstore.proto, by grpc-go, until the test ends.
func bookstore(t *testing.T) dialogue.Subject {
	t.Helper()
	raw, err := os.ReadFile("testdata/bookstore.pb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.FindDescriptorByName("bookstore.Bookstore")
	if err != nil {
		t.Fatal(err)
	}
	desc := grpc.ServiceDesc{ServiceName: "bookstore.Bookstore", HandlerType: (*any)(nil)}
	methods := d.(protoreflect.ServiceDescriptor).Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName: string(m.Name()), ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, st grpc.ServerStream) error { return serve(m, st) },
		})
	}
	out := about
	out.Service = dialogue.ServeGRPC(t, func(s *grpc.Server) { s.RegisterService(&desc, struct{}{}) }).String()
	return out
}

func field(m protoreflect.Message, name string) protoreflect.FieldDescriptor {
	return m.Descriptor().Fields().ByName(protoreflect.Name(name))
}

// serve answers a call: a shelf has the number that was asked for, there is none with the number
// 404, each has two books, added books are counted, and a chat says what it has heard
// when it has heard all: whether a client may go on after an early response is not the matter here.
func serve(m protoreflect.MethodDescriptor, st grpc.ServerStream) error {
	count := int64(0)
	var heard []proto.Message
	for {
		in := dynamicpb.NewMessage(m.Input())
		switch err := st.RecvMsg(in); {
		case errors.Is(err, io.EOF) && m.Name() == "AddBooks":
			out := dynamicpb.NewMessage(m.Output())
			out.Set(field(out, "count"), protoreflect.ValueOfInt64(count))
			return st.SendMsg(out)
		case errors.Is(err, io.EOF):
			for _, m := range heard {
				if err := st.SendMsg(m); err != nil {
					return err
				}
			}
			return nil
		case err != nil:
			return err
		}
		count++
		out := dynamicpb.NewMessage(m.Output())
		switch m.Name() {
		case "AddBooks":
			continue
		case "GetShelf":
			id := in.Get(field(in, "shelf")).Int()
			if id == 404 {
				return status.Error(codes.NotFound, "no such shelf: 100%")
			}
			out.Set(field(out, "id"), protoreflect.ValueOfInt64(id))
			out.Set(field(out, "theme"), protoreflect.ValueOfString("Kids"))
		case "ListBooks":
			for i := range 2 {
				book := dynamicpb.NewMessage(m.Output())
				book.Set(field(book, "name"), protoreflect.ValueOfString(fmt.Sprintf("Book %d", i+1)))
				if err := st.SendMsg(book); err != nil {
					return err
				}
			}
			return nil
		case "CreateBook":
			out = in.Get(field(in, "book")).Message().Interface().(*dynamicpb.Message)
		case "Chat":
			heard = append(heard, in)
			continue
		default:
			return status.Error(codes.Unimplemented, "is not there")
		}
		if err := st.SendMsg(out); err != nil {
			return err
		}
	}
}

// TestService: calls of a real server.
func TestService(t *testing.T) { dialogue.MechaAbout(t, bookstore(t), "testdata/service/*.txt") }
