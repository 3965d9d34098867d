// Package jsonpb turns JSON into protobuf messages and back, by descriptors that are known
// at run time only. It writes the wire format in the order in which JSON says it, without a
// message in between, and JSON that is the same byte by byte each time.
package jsonpb

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Set is the types of a descriptor set. It is immutable.
type Set struct {
	files *protoregistry.Files
	types *dynamicpb.Types
}

// Load reads a serialised google.protobuf.FileDescriptorSet.
func Load(raw []byte) (*Set, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		return nil, errors.New("unable to parse proto descriptor")
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("unable to build proto descriptor pool: %w", err)
	}
	if err := usual(files); err != nil {
		return nil, err
	}
	return &Set{files, dynamicpb.NewTypes(files)}, nil
}

// usual refuses messages that have the names but not the fields of those that JSON writes in
// ways of their own.
func usual(files *protoregistry.Files) (err error) {
	files.RangeFilesByPackage("google.protobuf", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Messages().Len() {
			d := file.Messages().Get(i)
			known := wellKnown(d)
			if known == nil {
				continue
			}
			want := known.ProtoReflect().Descriptor().Fields()
			same := d.Fields().Len() == want.Len()
			for j := 0; same && j < want.Len(); j++ {
				fd := d.Fields().ByNumber(want.Get(j).Number())
				same = fd != nil && fd.Kind() == want.Get(j).Kind() && fd.Cardinality() == want.Get(j).Cardinality() &&
					(fd.ContainingOneof() == nil) == (want.Get(j).ContainingOneof() == nil)
			}
			if !same {
				err = fmt.Errorf("%s is not the one that everybody knows", d.FullName())
				return false
			}
		}
		return true
	})
	return err
}

// Type is a message type; the zero value is none.
type Type struct {
	d protoreflect.MessageDescriptor
}

// Name is its full name.
func (t Type) Name() string { return string(t.d.FullName()) }

// Path leads from a message to one of its fields, through messages.
type Path []protoreflect.FieldDescriptor

// Begins reports whether q begins with p.
func (p Path) Begins(q Path) bool {
	if len(q) < len(p) {
		return false
	}
	for i := range p {
		if p[i] != q[i] {
			return false
		}
	}
	return true
}

const httpBody = "google.api.HttpBody"

// IsHTTPBody reports whether what p leads to, t itself if it leads nowhere, is a
// google.api.HttpBody.
func (t Type) IsHTTPBody(p Path) bool {
	d := t.d
	if len(p) > 0 {
		d = p[len(p)-1].Message()
	}
	return d != nil && d.FullName() == httpBody
}

// Resolve finds the field that names lead to: each is a name in the descriptor or in JSON, and
// may be percent-encoded.
func (t Type) Resolve(names []string) (Path, error) {
	d := t.d
	if len(names) > maxDepth {
		return nil, errors.New("Message too deep. Max recursion depth reached.") //nolint:staticcheck // Envoy's words, for clients
	}
	path := make(Path, 0, len(names))
	for i, name := range names {
		fd := find(d, name)
		if fd == nil {
			return nil, fmt.Errorf("Could not find field \"%s\" in the type \"%s\".", name, d.FullName()) //nolint:staticcheck // Envoy's words, for clients
		}
		path = append(path, fd)
		if i == len(names)-1 {
			break
		}
		if d = fd.Message(); d == nil {
			return nil, fmt.Errorf("Encountered a non-leaf field \"%s\" that is not a message while parsing a field path", fd.Name()) //nolint:staticcheck // Envoy's words, for clients
		}
	}
	return path, nil
}

func find(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := field(d, name); fd != nil {
		return fd
	}
	if strings.Contains(name, "%") {
		if plain, err := url.PathUnescape(name); err == nil {
			return field(d, plain)
		}
	}
	return nil
}

// field finds a field by its name in the descriptor or in JSON.
func field(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := d.Fields().ByName(protoreflect.Name(name)); fd != nil {
		return fd
	}
	return d.Fields().ByJSONName(name)
}

// Method is a method of a service.
type Method struct {
	Path                         string // "/package.Service/Method"
	Input, Output                Type
	ClientStreams, ServerStreams bool
	Rules                        []Rule // of its google.api.http; nil: it has none
}

// Rule is a binding of a method to HTTP (google.api.HttpRule).
type Rule struct{ Method, Template, Body, ResponseBody string }

// Service returns the methods of a service by its full name, and whether there is one.
func (s *Set) Service(name string) (out []Method, ok bool) {
	d, err := s.files.FindDescriptorByName(protoreflect.FullName(name))
	service, ok := d.(protoreflect.ServiceDescriptor)
	if err != nil || !ok {
		return nil, false
	}
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		method := Method{
			Path:  "/" + name + "/" + string(m.Name()),
			Input: Type{m.Input()}, Output: Type{m.Output()},
			ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer(),
		}
		if o, ok := m.Options().(*descriptorpb.MethodOptions); ok && proto.HasExtension(o, annotations.E_Http) {
			if r, ok := proto.GetExtension(o, annotations.E_Http).(*annotations.HttpRule); ok {
				method.Rules = rules(nil, r)
			}
		}
		out = append(out, method)
	}
	return out, true
}

// rules appends a rule and its additional ones. Those without a pattern have no template.
func rules(out []Rule, r *annotations.HttpRule) []Rule {
	one := Rule{Body: r.Body, ResponseBody: r.ResponseBody}
	switch p := r.Pattern.(type) {
	case *annotations.HttpRule_Get:
		one.Method, one.Template = "GET", p.Get
	case *annotations.HttpRule_Put:
		one.Method, one.Template = "PUT", p.Put
	case *annotations.HttpRule_Post:
		one.Method, one.Template = "POST", p.Post
	case *annotations.HttpRule_Delete:
		one.Method, one.Template = "DELETE", p.Delete
	case *annotations.HttpRule_Patch:
		one.Method, one.Template = "PATCH", p.Patch
	case *annotations.HttpRule_Custom:
		one.Method, one.Template = p.Custom.GetKind(), p.Custom.GetPath()
	}
	out = append(out, one)
	for _, more := range r.AdditionalBindings {
		out = rules(out, more)
	}
	return out
}

// Status turns a google.rpc.Status, whose details may be of types of the set, into JSON.
func (p *Printer) Status(dst []byte, code int, message string, details []byte) ([]byte, error) {
	var st statuspb.Status
	if details == nil {
		st.Code, st.Message = int32(code), message
	} else if err := p.decode(details, &st); err != nil {
		return dst, err
	}
	return p.AppendMessage(dst, st.ProtoReflect())
}
