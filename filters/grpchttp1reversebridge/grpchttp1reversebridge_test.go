package grpchttp1reversebridge

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	bridgev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_reverse_bridge/v3"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// engine is what the filter asks of a stream.
type engine struct {
	filter.Engine
	held buffer.Buf
}

func (e *engine) RefreshRoute()             {}
func (e *engine) HoldResponse() *buffer.Buf { return &e.held }

// begin sends the head of a gRPC request through a filter.
func begin(t *testing.T, c *Config) (*Filter, *filter.Stream) {
	t.Helper()
	mk, err := Spec.New(c, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	f := mk().(*Filter)
	s := &filter.Stream{Engine: &engine{}}
	s.Request.Add(":path", "/s/m")
	s.Request.Add("content-type", "application/grpc")
	if err := f.OnRequestHeaders(s, false); err != nil {
		t.Fatal(err)
	}
	return f, s
}

func piece(text string) *buffer.Buf {
	b := &buffer.Buf{}
	b.AppendString(text)
	return b
}

func details(err error) string {
	var r *filter.Reply
	if errors.As(err, &r) {
		return r.Details
	}
	return ""
}

// TestPrefixInPieces: the prefix goes however the request is cut; a request that is
// shorter is none.
func TestPrefixInPieces(t *testing.T) {
	c := &Config{ContentType: "x/y", Withhold: true}
	for _, pieces := range [][]string{{"01234abc"}, {"0", "1234ab", "c"}, {"01234", "abc"}, {"0", "", "12", "34abc"}} {
		f, s := begin(t, c)
		got := ""
		for i, p := range pieces {
			b := piece(p)
			if err := f.OnRequestData(s, b, i == len(pieces)-1); err != nil {
				t.Fatal(err)
			}
			got += string(b.Bytes())
			b.Release()
		}
		if got != "abc" {
			t.Errorf("%q became %q", pieces, got)
		}
	}
	f, s := begin(t, c)
	if err := f.OnRequestData(s, piece("012"), false); err != nil {
		t.Fatal(err)
	}
	if err := f.OnRequestData(s, piece("3"), true); details(err) != "grpc_bridge_data_too_small" {
		t.Errorf("four bytes: %v", err)
	}
}

// TestSizeHeaderThatLies: a response of another length than was said is broken off.
func TestSizeHeaderThatLies(t *testing.T) {
	for _, body := range []string{"a", "abc"} {
		f, s := begin(t, &Config{ContentType: "x/y", Withhold: true, SizeHeader: "size"})
		s.Response.Add(":status", "200")
		s.Response.Add("content-type", "x/y")
		s.Response.Add("size", "2, 7")
		if err := f.OnResponseHeaders(s, false); err != nil {
			t.Fatal(err)
		}
		if got := s.Response.Get("content-length"); got != "7" {
			t.Errorf("content-length %s", got)
		}
		b := piece(body)
		if err := f.OnResponseData(s, b, true); details(err) != "grpc_bridge_content_length_wrong" {
			t.Errorf("%q: %v", body, err)
		}
		b.Release()
	}
}

// TestOwnAnswers: what the proxy answers itself is gRPC already.
func TestOwnAnswers(t *testing.T) {
	f, s := begin(t, &Config{ContentType: "x/y", Withhold: true})
	s.Response.Add(":status", "200")
	s.Response.Add("content-type", "application/grpc")
	s.Response.Add("grpc-status", "14")
	s.Response.Add("grpc-message", "no healthy upstream")
	if err := f.OnResponseHeaders(s, true); err != nil {
		t.Fatal(err)
	}
	if got := s.Response.Get("grpc-message") + s.Response.Get("grpc-status"); got != "no healthy upstream14" {
		t.Error(got)
	}
}

func TestRefusals(t *testing.T) {
	raw, err := proto.Marshal(&bridgev3.FilterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(raw, nil); err == nil || !strings.Contains(err.Error(), "content_type") {
		t.Errorf("no content_type: %v", err)
	}
}
