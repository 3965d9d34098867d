package grpclog

import (
	"testing"
	"time"

	logv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// decode writes an entry and reads it again.
func decode(t *testing.T, f *Format, e *accesslog.Entry) *logv3.HTTPAccessLogEntry {
	t.Helper()
	var list alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries
	if err := proto.Unmarshal(f.Append(nil, e), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.LogEntry) != 1 {
		t.Fatalf("%d entries", len(list.LogEntry))
	}
	return list.LogEntry[0]
}

func TestEveryFlag(t *testing.T) {
	for i := range 30 {
		flag := meta.Flag(1) << i
		e := decode(t, &Format{}, &accesslog.Entry{Stream: &meta.Stream{Flags: flag}})
		fields := 0
		e.CommonProperties.GetResponseFlags().ProtoReflect().Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
			fields++
			return true
		})
		want := 1
		if flag == meta.DropOverload || flag == meta.UnconditionalDropOverload { // the message has no field for them
			want = 0
		}
		if fields != want {
			t.Errorf("%s: %v", flag, e.CommonProperties.ResponseFlags)
		}
	}
	e := decode(t, &Format{}, &accesslog.Entry{Stream: &meta.Stream{Flags: meta.NoRouteFound | meta.UnauthorizedExternalService}})
	if f := e.CommonProperties.ResponseFlags; !f.NoRouteFound || f.UnauthorizedDetails.GetReason() != logv3.ResponseFlags_Unauthorized_EXTERNAL_SERVICE {
		t.Errorf("got %v", f)
	}
}

// A client may send what is no UTF-8, which must not cost the whole batch.
func TestAnyBytes(t *testing.T) {
	var m header.Map
	m.AddID(header.Method, "BREW")
	m.AddID(header.Path, "/\xff")
	m.Add("x-a", "\xfe")
	e := decode(t, &Format{RequestHeaders: []string{"x-a"}}, &accesslog.Entry{
		Request: &m, Conn: &meta.Conn{Remote: meta.Addr{Path: "@\xff"}}, Stream: &meta.Stream{Start: time.Unix(1, 2), Protocol: meta.HTTP2},
	})
	if e.Request.Path != "/!" || e.Request.RequestHeaders["x-a"] != "!" || e.CommonProperties.DownstreamRemoteAddress.GetPipe().GetPath() != "@!" {
		t.Errorf("got %v", e)
	}
	if e.Request.RequestMethod != 0 || e.ProtocolVersion != logv3.HTTPAccessLogEntry_HTTP2 || !e.CommonProperties.StartTime.AsTime().Equal(time.Unix(1, 2)) {
		t.Errorf("got %v", e)
	}
}

func TestMetadata(t *testing.T) {
	var m meta.Metadata
	m.Set("ns", "text", "a")
	m.Set("ns", "deep", map[string]any{"list": []any{1.5, true, nil, "b"}})
	e := decode(t, &Format{}, &accesslog.Entry{Stream: &meta.Stream{}, Metadata: &m})
	got := e.CommonProperties.Metadata.FilterMetadata["ns"].AsMap()
	list := got["deep"].(map[string]any)["list"].([]any)
	if got["text"] != "a" || len(list) != 4 || list[0] != 1.5 || list[1] != true || list[2] != nil || list[3] != "b" {
		t.Errorf("got %v", got)
	}
}
