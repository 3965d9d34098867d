package fromproto

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	envv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/environment_variable/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

const (
	networkInputs = "envoy.extensions.matching.common_inputs.network.v3."
	tlsInputs     = "envoy.extensions.matching.common_inputs.ssl.v3."
)

// NetworkInput converts an input that reads a connection.
func NetworkInput(c filter.Any) (TreeInput[*filter.Conn], error) {
	in, err := networkInput(c, reading[*filter.Conn]{
		conn:     func(c *filter.Conn) *meta.Conn { return c.Meta },
		state:    func(c *filter.Conn, key string) any { return c.State.Get(key) },
		metadata: func(c *filter.Conn) *meta.Metadata { return &c.Metadata },
	})
	if err == nil && in.Get == nil {
		err = noInput(c.Type, "connection")
	}
	return in, err
}

// HTTPInput converts an input that reads a stream or its connection.
func HTTPInput(c filter.Any) (TreeInput[*filter.Stream], error) {
	in, err := httpInput(c)
	if err == nil && in.Get == nil {
		in, err = networkInput(c, reading[*filter.Stream]{
			conn:     func(s *filter.Stream) *meta.Conn { return s.Conn },
			state:    (*filter.Stream).FilterState,
			metadata: func(s *filter.Stream) *meta.Metadata { return &s.Metadata },
		})
	}
	if err == nil && in.Get == nil {
		err = noInput(c.Type, "stream")
	}
	return in, err
}

func noInput(typ, of string) error {
	return filter.At("typed_config", fmt.Errorf("this build has no input of the type %q for a %s", typ, of))
}

// reading is how what the network inputs read is found in a context.
type reading[C any] struct {
	conn     func(C) *meta.Conn
	state    func(c C, key string) any
	metadata func(C) *meta.Metadata
}

// networkInput returns no input for a type that it does not know.
func networkInput[C any](c filter.Any, r reading[C]) (TreeInput[C], error) {
	var get func(*meta.Conn, *tree.Scratch) tree.Value
	if name, ok := strings.CutPrefix(c.Type, tlsInputs); ok {
		get = certificateInput(name)
	} else if name, ok := strings.CutPrefix(c.Type, networkInputs); ok {
		switch name {
		case "FilterStateInput":
			return stateInput(c.Value, r)
		case "DynamicMetadataInput":
			return metadataInput(c.Value, r)
		}
		get = connInput(name)
	} else {
		return environmentInput[C](c)
	}
	if get == nil {
		return TreeInput[C]{}, nil
	}
	return TreeInput[C]{Get: func(c C, s *tree.Scratch) tree.Value {
		if m := r.conn(c); m != nil {
			return get(m, s)
		}
		return tree.Value{}
	}}, nil
}

// connInput is the input of that name over what is known of a connection.
func connInput(name string) func(m *meta.Conn, s *tree.Scratch) tree.Value {
	ip := func(of func(*meta.Conn) meta.Addr) func(*meta.Conn, *tree.Scratch) tree.Value {
		return func(m *meta.Conn, s *tree.Scratch) tree.Value { return s.Addr(of(m).Addr()) }
	}
	port := func(of func(*meta.Conn) meta.Addr) func(*meta.Conn, *tree.Scratch) tree.Value {
		return func(m *meta.Conn, s *tree.Scratch) tree.Value {
			if a := of(m); a.AddrPort.IsValid() {
				return s.Number(int(a.Port()))
			}
			return tree.Value{}
		}
	}
	switch name {
	case "DestinationIPInput":
		return ip(func(m *meta.Conn) meta.Addr { return m.Local })
	case "DestinationPortInput":
		return port(func(m *meta.Conn) meta.Addr { return m.Local })
	case "SourceIPInput":
		return ip(func(m *meta.Conn) meta.Addr { return m.Remote })
	case "SourcePortInput":
		return port(func(m *meta.Conn) meta.Addr { return m.Remote })
	case "DirectSourceIPInput":
		return ip(func(m *meta.Conn) meta.Addr { return m.Direct })
	case "SourceTypeInput":
		return func(m *meta.Conn, _ *tree.Scratch) tree.Value {
			if m.FromSameHost() {
				return tree.Text("local")
			}
			return tree.Value{}
		}
	case "ServerNameInput":
		return func(m *meta.Conn, _ *tree.Scratch) tree.Value { return unlessEmpty(m.ServerName) }
	case "TransportProtocolInput":
		return func(m *meta.Conn, _ *tree.Scratch) tree.Value { return unlessEmpty(m.TransportProtocol) }
	case "ApplicationProtocolInput":
		return applicationProtocols
	}
	return nil
}

// certificateInput is the input of that name over the certificate of a TLS client: its
// subject, or its names of a kind, joined by commas. It is absent where there is none.
func certificateInput(name string) func(m *meta.Conn, s *tree.Scratch) tree.Value {
	names := func(k meta.AltKind) func(*meta.Conn, *tree.Scratch) tree.Value {
		return func(m *meta.Conn, s *tree.Scratch) tree.Value {
			d := m.TLS.PeerDescribed()
			if d == nil {
				return tree.Value{}
			}
			any := false
			v := s.Append(func(b []byte) []byte {
				b, any = d.AppendNames(b, k)
				return b
			})
			if !any {
				return tree.Value{}
			}
			return v
		}
	}
	switch name {
	case "UriSanInput":
		return names(meta.URIName)
	case "DnsSanInput":
		return names(meta.DNSName)
	case "SubjectInput":
		return func(m *meta.Conn, _ *tree.Scratch) tree.Value {
			if d := m.TLS.PeerDescribed(); d != nil {
				return unlessEmpty(d.Subject)
			}
			return tree.Value{}
		}
	}
	return nil
}

func unlessEmpty(s string) tree.Value {
	if s == "" {
		return tree.Value{}
	}
	return tree.Text(s)
}

// applicationProtocols is the list in the form 'h2','http/1.1'.
func applicationProtocols(m *meta.Conn, s *tree.Scratch) tree.Value {
	if len(m.ALPN) == 0 {
		return tree.Value{}
	}
	return s.Append(func(b []byte) []byte {
		for i, p := range m.ALPN {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, '\''), p...), '\'')
		}
		return b
	})
}

func stateInput[C any](raw []byte, r reading[C]) (TreeInput[C], error) {
	var pb networkv3.FilterStateInput
	if err := Unmarshal(raw, &pb); err != nil {
		return TreeInput[C]{}, err
	}
	key, field := pb.Key, pb.Field
	return TreeInput[C]{Get: func(c C, _ *tree.Scratch) tree.Value {
		object := r.state(c, key)
		if fields, ok := object.(filter.Fields); ok && field != "" {
			text, ok := fields.Field(field)
			if !ok {
				return tree.Value{}
			}
			return tree.Text(text)
		}
		if text, ok := filter.StateText(object); ok {
			return tree.Text(text)
		}
		return tree.Value{}
	}}, nil
}

func metadataInput[C any](raw []byte, r reading[C]) (TreeInput[C], error) {
	var pb networkv3.DynamicMetadataInput
	if err := Unmarshal(raw, &pb); err != nil {
		return TreeInput[C]{}, err
	}
	path := make([]string, len(pb.Path))
	for i, seg := range pb.Path {
		path[i] = seg.GetKey()
	}
	namespace := pb.Filter
	return TreeInput[C]{Kind: StructuredValue, Get: func(c C, _ *tree.Scratch) tree.Value {
		v, ok := r.metadata(c).Find(namespace, path...)
		if !ok {
			return tree.Value{}
		}
		return tree.Value{State: tree.Present, Data: v}
	}}, nil
}

func environmentInput[C any](c filter.Any) (in TreeInput[C], err error) {
	if c.Type != "envoy.extensions.matching.common_inputs.environment_variable.v3.Config" {
		return in, nil
	}
	var pb envv3.Config
	if err := Unmarshal(c.Value, &pb); err != nil {
		return in, err
	}
	v := tree.Value{}
	if text, ok := os.LookupEnv(pb.Name); ok {
		v = tree.Text(text)
	}
	in.Get = func(C, *tree.Scratch) tree.Value { return v }
	return in, nil
}

const typeMatcher = "envoy.type.matcher.v3."

// httpInput returns no input for a type that it does not know.
func httpInput(c filter.Any) (in TreeInput[*filter.Stream], err error) {
	if c.Type == celInput {
		return TreeInput[*filter.Stream]{Kind: AttributesValue, Get: func(s *filter.Stream, _ *tree.Scratch) tree.Value {
			return tree.Value{State: tree.Present, Data: attributes.Source{Stream: s}}
		}}, nil
	}
	name, ok := strings.CutPrefix(c.Type, typeMatcher)
	if !ok {
		return in, nil
	}
	switch name {
	case "HttpRequestHeaderMatchInput":
		var pb matcherv3.HttpRequestHeaderMatchInput
		err = Unmarshal(c.Value, &pb)
		in.Get = fieldInput(pb.HeaderName, func(s *filter.Stream) *header.Map { return &s.Request })
	case "HttpRequestTrailerMatchInput":
		var pb matcherv3.HttpRequestTrailerMatchInput
		err = Unmarshal(c.Value, &pb)
		in.Get = fieldInput(pb.HeaderName, func(s *filter.Stream) *header.Map { return &s.RequestTrailers })
	case "HttpResponseHeaderMatchInput":
		var pb matcherv3.HttpResponseHeaderMatchInput
		err = Unmarshal(c.Value, &pb)
		in.Get = fieldInput(pb.HeaderName, func(s *filter.Stream) *header.Map { return &s.Response })
	case "HttpResponseTrailerMatchInput":
		var pb matcherv3.HttpResponseTrailerMatchInput
		err = Unmarshal(c.Value, &pb)
		in.Get = fieldInput(pb.HeaderName, func(s *filter.Stream) *header.Map { return &s.ResponseTrailers })
	case "HttpRequestQueryParamMatchInput":
		var pb matcherv3.HttpRequestQueryParamMatchInput
		err = Unmarshal(c.Value, &pb)
		in.Get = queryInput(pb.QueryParam)
	case "HttpResponseStatusCodeMatchInput":
		in.Get = func(s *filter.Stream, _ *tree.Scratch) tree.Value { return statusText(s, false) }
	case "HttpResponseStatusCodeClassMatchInput":
		in.Get = func(s *filter.Stream, _ *tree.Scratch) tree.Value { return statusText(s, true) }
	case "HttpResponseLocalReplyMatchInput":
		in.Get = func(s *filter.Stream, _ *tree.Scratch) tree.Value {
			if s.Response.Len() == 0 {
				return tree.NotYet()
			}
			return tree.Text(strconv.FormatBool(s.Meta.Details != "via_upstream"))
		}
	}
	return in, err
}

// fieldInput reads all fields of a name, joined by commas. A map without any field has
// not arrived yet.
func fieldInput(name string, of func(*filter.Stream) *header.Map) tree.Input[*filter.Stream] {
	name = match.HeaderName(name)
	return func(st *filter.Stream, s *tree.Scratch) tree.Value {
		m := of(st)
		switch n := fieldCount(m, name); {
		case m.Len() == 0:
			return tree.NotYet()
		case n == 0:
			return tree.Value{}
		case n == 1:
			return tree.Text(m.Get(name))
		}
		return s.Append(func(b []byte) []byte { return appendFields(b, m, name) })
	}
}

func fieldCount(m *header.Map, name string) (n int) {
	for range m.Values(name) {
		n++
	}
	return n
}

func appendFields(dst []byte, m *header.Map, name string) []byte {
	first := true
	for text := range m.Values(name) {
		if !first {
			dst = append(dst, ',')
		}
		dst, first = append(dst, text...), false
	}
	return dst
}

// queryInput reads the first parameter of a name, decoded.
func queryInput(name string) tree.Input[*filter.Stream] {
	return func(st *filter.Stream, s *tree.Scratch) tree.Value {
		if st.Request.Len() == 0 {
			return tree.NotYet()
		}
		text, ok := match.QueryValue(st.Request.Value(header.Path), name)
		switch {
		case !ok:
			return tree.Value{}
		case strings.IndexByte(text, '%') < 0:
			return tree.Text(text)
		}
		return s.Append(func(b []byte) []byte { return appendDecoded(b, text) })
	}
}

// appendDecoded appends text with %XX replaced; what is no such sequence stays.
func appendDecoded(dst []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			high, low := strings.IndexByte(hexDigits, text[i+1]|' '), strings.IndexByte(hexDigits, text[i+2]|' ')
			if high >= 0 && low >= 0 {
				dst = append(dst, byte(high<<4|low))
				i += 2
				continue
			}
		}
		dst = append(dst, text[i])
	}
	return dst
}

const hexDigits = "0123456789abcdef"

var statusClasses = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

func statusText(s *filter.Stream, class bool) tree.Value {
	text := s.Response.Value(header.Status)
	switch {
	case s.Response.Len() == 0:
		return tree.NotYet()
	case !class:
		return unlessEmpty(text)
	}
	if n := s.Response.StatusCode() / 100; 1 <= n && n <= len(statusClasses) {
		return tree.Text(statusClasses[n-1])
	}
	return tree.Value{}
}
