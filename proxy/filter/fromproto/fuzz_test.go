package fromproto_test

import (
	"strings"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// FuzzRoutes: no bytes make a route table that panics, when it is made or when it is
// used, whatever a request looks like.
func FuzzRoutes(f *testing.F) {
	for _, text := range seeds() {
		f.Add(fromJSON(f, text), "a.example:80", "/a/b?c=d", "x")
	}
	f.Fuzz(func(t *testing.T, raw []byte, host, path, value string) {
		table, err := fromproto.Routes(raw, newParser(t))
		if err != nil {
			return
		}
		s := &filter.Stream{}
		s.Request.AddID(header.Method, "GET")
		s.Request.AddID(header.Authority, host)
		s.Request.AddID(header.Path, path)
		s.Request.Add("x", value)
		s.Request.Add("cookie", value)
		s.Response.AddID(header.Status, "200")
		r, _ := table.Match(s).(*route.Route)
		if r == nil {
			return
		}
		switch r.Kind {
		case route.Redirect:
			r.RedirectReply(s).Modify(s)
		case route.Direct:
			r.DirectReply(s).Modify(s)
		default:
			r.ClusterName(s)
			if err := r.FinalizeRequest(s, true); err != nil {
				t.Fatal(err)
			}
			if err := r.FinalizeResponse(s); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func seeds() []string {
	return []string{
		`{"virtual_hosts": [{"name": "v", "domains": ["*.example", "a*"], "routes": [
		  {"match": {"path_separated_prefix": "/a", "headers": [{"name": "x", "range_match": {"start": 1, "end": 5}, "invert_match": true}]},
		   "route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1}]}, "prefix_rewrite": "/n", "append_x_forwarded_host": true, "host_rewrite_header": "x"}},
		  {"match": {"safe_regex": {"regex": "/(.*)"}}, "redirect": {"regex_rewrite": {"pattern": {"regex": "b"}, "substitution": "\\0"}}}]}]}`,
		`{"virtual_hosts": [{"name": "v", "domains": ["*"], "require_tls": "EXTERNAL_ONLY", "routes": [{"match": {"prefix": "/", "query_parameters": [{"name": "c"}],
		  "cookies": [{"name": "k", "string_match": {"contains": "V", "ignore_case": true}, "invert_match": true}]}, "direct_response": {"status": 201},
		  "response_headers_to_add": [{"header": {"key": "y", "value": "%REQ(x)%"}}]}]}], "ignore_port_in_host_matching": true}`,
	}
}

// FuzzAccessLogs: no bytes make an access log that panics.
func FuzzAccessLogs(f *testing.F) {
	f.Add([]byte("\x0a\x04file\x12\x0f\x3a\x0d\x0a\x02\x1a\x00\x0a\x07\x12\x05\x0a\x03\x08\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var pb accesslogv3.AccessLog
		if proto.Unmarshal(raw, &pb) != nil || fromproto.Validate(&pb) != nil {
			return
		}
		specs, err := fromproto.AccessLogs([]*accesslogv3.AccessLog{&pb})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "access_log[0]") {
				t.Errorf("no path: %v", err)
			}
			return
		}
		s := &filter.Stream{}
		accesslog.NewLogger(specs[0].Filter, specs[0].Format, discard{}).Log(s.LogEntry())
	})
}

type discard struct{}

func (discard) Write([]byte) {}
