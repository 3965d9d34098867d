package xds

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// UnknownFields is what happens to resources with fields that no schema here knows:
// control planes are newer than proxies.
type UnknownFields uint8

// What may happen to them.
const (
	CountUnknown  UnknownFields = iota // they are taken, logged and counted; the default
	RefuseUnknown                      // --reject-unknown-dynamic-fields
	IgnoreUnknown                      // --ignore-unknown-dynamic-fields
)

// unknownFields looks for such fields. It belongs to the manager's lock.
type unknownFields struct {
	policy  UnknownFields
	seen    map[string]bool
	counter unknownCounter
}

// unknownCounter is server.dynamic_unknown_fields.
type unknownCounter struct {
	Fields stats.Counter `stat:"dynamic_unknown_fields" help:"Kinds of messages of xDS resources with fields that no schema knows."`
}

const (
	maxUnknownSeen  = 1000 // kinds of messages that are remembered, and counted
	maxUnknownDepth = 100  // messages in messages, as deep as Envoy reads them
)

// check looks through a resource. As in Envoy, each kind of message with the same unknown
// fields in the same place counts once, whatever the number of resources.
func (u *unknownFields) check(body *anypb.Any, warn func(kind string)) error {
	if u.policy == IgnoreUnknown {
		return nil
	}
	var refused error
	s := unknownScan{found: func(kind string) {
		switch {
		case u.policy == RefuseUnknown:
			if refused == nil {
				refused = fmt.Errorf("Protobuf message (%s) has unknown fields", kind) //nolint:staticcheck // Envoy's words
			}
		case !u.seen[kind] && len(u.seen) < maxUnknownSeen:
			if u.seen == nil {
				u.seen = map[string]bool{}
			}
			u.seen[kind] = true
			u.counter.Fields.Inc()
			warn(kind)
		}
	}}
	s.any(body.GetTypeUrl(), body.GetValue(), 0)
	return refused
}

// unknownScan reads messages in their serialised form: most resources have no such field,
// and finding that out must not cost what reading them costs.
type unknownScan struct {
	path  []protoreflect.MessageDescriptor // from the outermost message inwards
	found func(kind string)
}

// any looks into a message of a type by its URL, unless that is unknown itself.
func (s *unknownScan) any(url string, raw []byte, depth int) {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(fromproto.TypeName(url)))
	if err != nil {
		return
	}
	outer := s.path
	s.path = nil // each Any is a message of its own
	s.message(mt.Descriptor(), raw, depth)
	s.path = outer
}

func (s *unknownScan) message(md protoreflect.MessageDescriptor, raw []byte, depth int) {
	if depth > maxUnknownDepth {
		return
	}
	if md.FullName() == anyName {
		s.inner(raw, depth)
		return
	}
	var unknown []protowire.Number
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return // whoever reads it as a whole says what is wrong
		}
		size := protowire.ConsumeFieldValue(num, typ, raw[n:])
		if size < 0 {
			return
		}
		value := raw[n : n+size]
		raw = raw[n+size:]
		switch fd := md.Fields().ByNumber(num); {
		case fd == nil:
			unknown = append(unknown, num)
		case fd.Message() != nil && typ == protowire.BytesType:
			inside, _ := protowire.ConsumeBytes(value)
			s.path = append(s.path, md)
			s.message(fd.Message(), inside, depth+1)
			s.path = s.path[:len(s.path)-1]
		}
	}
	if len(unknown) > 0 {
		s.found(s.describe(md, unknown))
	}
}

const anyName = "google.protobuf.Any"

// inner looks into what an Any holds.
func (s *unknownScan) inner(raw []byte, depth int) {
	var url, value []byte
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(num, typ, raw[n:])
		if size < 0 {
			return
		}
		if typ == protowire.BytesType {
			b, _ := protowire.ConsumeBytes(raw[n:])
			switch num {
			case 1:
				url = b
			case 2:
				value = b
			}
		}
		raw = raw[n+size:]
	}
	s.any(string(url), value, depth+1)
}

// describe is Envoy's text: type, way to it, numbers of the fields.
func (s *unknownScan) describe(md protoreflect.MessageDescriptor, unknown []protowire.Number) string {
	way := "root"
	if len(s.path) > 0 {
		var names []string
		for _, p := range s.path {
			names = append(names, string(p.FullName()))
		}
		way = strings.Join(names, "::")
	}
	var numbers []string
	for _, n := range unknown {
		numbers = append(numbers, fmt.Sprint(n))
	}
	return fmt.Sprintf("type %s(%s) with unknown field set {%s}", md.FullName(), way, strings.Join(numbers, ", "))
}
