package telemetry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// fickle is an access log service that ends each stream after some messages.
type fickle struct {
	alsv3.UnimplementedAccessLogServiceServer
	messages int // of a stream; 0: it ends by itself

	mu      sync.Mutex
	streams []heardStream
}

type heardStream struct{ messages, identifiers, entries int }

func (f *fickle) StreamAccessLogs(s alsv3.AccessLogService_StreamAccessLogsServer) error {
	f.mu.Lock()
	at := len(f.streams)
	f.streams = append(f.streams, heardStream{})
	f.mu.Unlock()
	for n := 1; ; n++ {
		m, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&alsv3.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		f.mu.Lock()
		st := &f.streams[at]
		st.messages++
		if m.Identifier != nil {
			st.identifiers++
		}
		st.entries += len(m.GetHttpLogs().GetLogEntry())
		f.mu.Unlock()
		if n == f.messages {
			return status.Error(codes.Unavailable, "enough")
		}
	}
}

// total is what was heard on all streams.
func (f *fickle) total() (streams, entries, messages int, wrong string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, s := range f.streams {
		entries += s.entries
		messages += s.messages
		if s.messages > 0 && s.identifiers != 1 {
			wrong = fmt.Sprintf("stream %d has %d messages, %d of them with an identifier", i, s.messages, s.identifiers)
		}
	}
	return len(f.streams), entries, messages, wrong
}

// startLogged runs a proxy that answers by itself and tells an access log service of it, and
// returns how to ask it.
func startLogged(t *testing.T, als int, more obj) (p *dialogue.Proxy, ask func()) {
	return startWithLog(t, als, obj{"@type": ofHTTPLog, "common_config": grpcCommon("log", more)})
}

// startWithLog is startLogged with that log.
func startWithLog(t *testing.T, als int, log obj) (p *dialogue.Proxy, ask func()) {
	free := ports.FreeN(t, 2)
	hcm := obj{
		"@type": ofHCM, "stat_prefix": "web", "access_log": []any{obj{"name": "log", "typed_config": log}},
		"route_config": obj{"virtual_hosts": []any{obj{"name": "all", "domains": []any{"*"}, "routes": []any{obj{"match": obj{"prefix": "/"}, "direct_response": obj{"status": 200}}}}}},
		"http_filters": []any{obj{"name": "envoy.filters.http.router", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}},
	}
	config, err := json.Marshal(obj{
		"node":  obj{"id": "node-1", "cluster": "my-cluster"},
		"admin": obj{"address": dialogue.SocketAddress(free[0])},
		"static_resources": obj{"clusters": []any{dialogue.StaticCluster("otlp", als, true)}, "listeners": []any{obj{
			"name": "web", "address": dialogue.SocketAddress(free[1]), "filter_chains": []any{obj{"filters": []any{obj{"name": "hcm", "typed_config": hcm}}}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return dialogue.StartMecha(t, config), func() {
		t.Helper()
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", free[1]))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
}

// until polls until something holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

// TestOneStream: batches are messages on one stream, whose first one alone says who sends.
func TestOneStream(t *testing.T) {
	f := &fickle{}
	addr := dialogue.ServeGRPC(t, func(to *grpc.Server) { alsv3.RegisterAccessLogServiceServer(to, f) })
	_, ask := startLogged(t, addr.(*net.TCPAddr).Port, nil)
	for n := 1; n <= 3; n++ {
		ask()
		until(t, "an entry", func() bool { _, entries, _, _ := f.total(); return entries == n })
	}
	if streams, _, messages, wrong := f.total(); streams != 1 || messages != 3 || wrong != "" {
		t.Errorf("%d streams with %d messages, %s", streams, messages, wrong)
	}
}

// TestStreamIsOpenedAnew: a service that ends the stream is told who sends once more, and a
// retry policy saves what could not be sent.
func TestStreamIsOpenedAnew(t *testing.T) {
	f := &fickle{messages: 1}
	addr := dialogue.ServeGRPC(t, func(to *grpc.Server) { alsv3.RegisterAccessLogServiceServer(to, f) })
	p, ask := startLogged(t, addr.(*net.TCPAddr).Port, obj{"grpc_stream_retry_policy": obj{
		"num_retries": 5, "retry_back_off": obj{"base_interval": "0.005s", "max_interval": "0.02s"},
	}})
	for n := 0; n < 3; n++ {
		_, _, before, _ := f.total()
		ask()
		until(t, "another message", func() bool { _, _, now, _ := f.total(); return now > before })
		streams, _, _, _ := f.total()
		// What leaves between the end of a stream and the news of it is lost, as with Envoy.
		p.WaitStat(t, "cluster.otlp.upstream_rq_active", "0")
		if streams != n+1 {
			t.Fatalf("%d streams after %d messages", streams, n+1)
		}
	}
	if _, _, _, wrong := f.total(); wrong != "" {
		t.Error(wrong)
	}
	p.WaitStat(t, "access_logs.grpc_access_log.logs_dropped", "0")
}

// TestDeadLogService: entries for a service that is not there are dropped and counted, and
// nobody waits for it.
func TestDeadLogService(t *testing.T) {
	p, ask := startLogged(t, ports.FreeN(t, 1)[0], nil)
	ask()
	p.WaitStat(t, "access_logs.grpc_access_log.grpc_entries_flush_failed", "1")
	p.WaitStat(t, "access_logs.grpc_access_log.logs_dropped", "1")
	for range 10 {
		ask()
	}
	p.WaitStat(t, "access_logs.grpc_access_log.logs_written", "11")
}

// TestUnconnectedCollector: a batch for a collector that cannot be connected to is tried again as often
// as the policy says.
func TestUnconnectedCollector(t *testing.T) {
	p, ask := startWithLog(t, ports.FreeN(t, 1)[0], obj{"@type": ofOTLPLog, "common_config": grpcCommon("log", obj{"grpc_stream_retry_policy": obj{
		"num_retries": 2, "retry_back_off": obj{"base_interval": "0.005s", "max_interval": "0.02s"},
	}})})
	ask()
	p.WaitStat(t, "access_logs.open_telemetry_access_log.logs_dropped", "1")
	p.WaitStat(t, "access_logs.open_telemetry_access_log.grpc_entries_flush_failed", "1")
	p.WaitStat(t, "cluster.otlp.upstream_cx_connect_fail", "3")
}
