package telemetry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	collogsv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	tracesv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// patience is how long a test waits for what is to come.
const patience = 5 * time.Second

// collector receives what a proxy exports.
type collector struct {
	tracesv1.UnimplementedTraceServiceServer
	alsv3.UnimplementedAccessLogServiceServer

	grpc, http int // ports

	mu    sync.Mutex
	spans map[string][]*tracev1.ResourceSpans // by service.name
	posts []post
	logs  map[string][]proto.Message // by the name of the log
	came  chan struct{}              // closed and made anew with everything that comes
}

// post is what came over HTTP, not as OTLP.
type post struct {
	path   string
	header http.Header
	body   []byte
}

func startCollector(t *testing.T) *collector {
	c := &collector{spans: map[string][]*tracev1.ResourceSpans{}, logs: map[string][]proto.Message{}, came: make(chan struct{})}
	c.grpc = dialogue.ServeGRPC(t, func(to *grpc.Server) {
		tracesv1.RegisterTraceServiceServer(to, c)
		alsv3.RegisterAccessLogServiceServer(to, c)
		collogsv1.RegisterLogsServiceServer(to, logsService{c: c})
	}).(*net.TCPAddr).Port
	web := httptest.NewServer(http.HandlerFunc(c.serveHTTP))
	t.Cleanup(web.Close)
	c.http = web.Listener.Addr().(*net.TCPAddr).Port
	return c
}

func (c *collector) Export(_ context.Context, q *tracesv1.ExportTraceServiceRequest) (*tracesv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range q.ResourceSpans {
		name := attribute(r.GetResource().GetAttributes(), "service.name")
		c.spans[name] = append(c.spans[name], r)
	}
	c.tell()
	return &tracesv1.ExportTraceServiceResponse{}, nil
}

// logsService receives log records; its method has the same name as that for spans.
type logsService struct {
	collogsv1.UnimplementedLogsServiceServer
	c *collector
}

func (l logsService) Export(_ context.Context, q *collogsv1.ExportLogsServiceRequest) (*collogsv1.ExportLogsServiceResponse, error) {
	l.c.exportLogs(q.ResourceLogs)
	return &collogsv1.ExportLogsServiceResponse{}, nil
}

// tell wakes who waits. The caller holds c.mu.
func (c *collector) tell() {
	close(c.came)
	c.came = make(chan struct{})
}

func (c *collector) serveHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.URL.Path == "/otlp/v1/traces" {
		var q tracesv1.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = c.Export(r.Context(), &q)
		return
	}
	if r.URL.Path == "/otlp/v1/logs" {
		var q collogsv1.ExportLogsServiceRequest
		if err := proto.Unmarshal(body, &q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.exportLogs(q.ResourceLogs)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts = append(c.posts, post{r.URL.Path, r.Header.Clone(), body})
	c.tell()
	w.WriteHeader(http.StatusAccepted)
}

// wait waits until there is what found looks for; found runs with the lock. Where one
// guesses, it need not come.
func (c *collector) wait(t *testing.T, what string, guess bool, found func() bool) bool {
	t.Helper()
	end := patience
	if guess {
		end = time.Second
	}
	timeout := time.After(end)
	for {
		c.mu.Lock()
		ok, came := found(), c.came
		c.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-came:
		case <-timeout:
			if !guess {
				t.Errorf("%s did not come", what)
			}
			return false
		}
	}
}

func attribute(list []*commonv1.KeyValue, key string) string {
	i := slices.IndexFunc(list, func(kv *commonv1.KeyValue) bool { return kv.Key == key })
	if i < 0 {
		return ""
	}
	return list[i].Value.GetStringValue()
}
