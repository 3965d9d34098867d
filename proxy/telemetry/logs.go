package telemetry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/export"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// logStats count the entries of logs that go to services.
type logStats struct {
	Written stats.Counter `stat:"logs_written" help:"Entries that were taken for a service"`
	Dropped stats.Counter `stat:"logs_dropped" help:"Entries dropped since there were too many of them, or since the service did not take them"`
}

// grpcLogStats count those over gRPC.
type grpcLogStats struct {
	logStats
	Flushed stats.Counter `stat:"grpc_entries_flushed" help:"Entries that a service has taken"`
	Failed  stats.Counter `stat:"grpc_entries_flush_failed" help:"Entries that a service has not taken"`
}

const (
	logsMethod     = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
	otlpLogsMethod = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
)

// recorder is a log that goes to a service.
type recorder struct {
	queue   *export.Queue
	append  func(b []byte, e *accesslog.Entry) []byte
	written *stats.Counter
	release func()
}

// entries holds memory for entries that are written.
var entries = sync.Pool{New: func() any { return new(make([]byte, 0, 1<<10)) }}

// Record implements accesslog.Recorder.
func (r *recorder) Record(e *accesslog.Entry) {
	p := entries.Get().(*[]byte)
	*p = r.append((*p)[:0], e)
	r.written.Inc()
	r.queue.Put(*p)
	entries.Put(p)
}

// Close implements accesslog.Recorder.
func (r *recorder) Close() { r.release() }

// Recorder opens a log that goes to a service: what FileOptions.Remote is for.
func (h *Hub) Recorder(config any) (accesslog.Recorder, error) {
	switch c := config.(type) {
	case *GRPCLog:
		log, release, err := use(h, fmt.Sprintf("als %t %s", c.Format.TCP, c.Key), func() (*sentLog, closer) { return h.grpcLog(c) })
		if err != nil {
			return nil, err
		}
		return &recorder{log.queue, c.Format.Append, log.written, release}, nil
	case *OpenTelemetryLog:
		log, release, err := use(h, "otlp log "+c.Key, func() (*sentLog, closer) { return h.openTelemetryLog(c) })
		if err != nil {
			return nil, err
		}
		return &recorder{log.queue, c.Format.Append, log.written, release}, nil
	}
	return nil, fmt.Errorf("telemetry: no log for %T", config)
}

// sentLog is what recorders of one configuration share.
type sentLog struct {
	queue   *export.Queue
	written *stats.Counter
}

func constant(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// grpcLog makes the queue of an access log service. Its batches are messages on one stream.
func (h *Hub) grpcLog(c *GRPCLog) (*sentLog, closer) {
	st, release := stats.Shared[grpcLogStats](h.o.Stats, "access_logs.grpc_access_log", "", "")
	stream := &stream{client: h.client, target: c.Target.GRPC, method: logsMethod, identifier: h.identifier(c.Name), backoff: c.Backoff}
	list := 2
	if c.Format.TCP {
		list = 3
	}
	queue := export.NewQueue(export.Options{
		Interval: constant(c.Buffer.Interval), Bytes: max(c.Buffer.Bytes, 1), Room: room(c.Buffer),
		Dropped: func(n int) { st.Dropped.Add(uint64(n)) },
		Send: func(ctx context.Context, b export.Batch) {
			message := wire.Bytes(make([]byte, 0, len(b.Bytes)+16), list, b.Bytes)
			st.sent(b.N, stream.send(ctx, message))
		},
	})
	return &sentLog{queue, &st.Written}, func(ctx context.Context) {
		if queue.Close(ctx) {
			stream.finish(ctx)
		}
		release()
	}
}

func (st *grpcLogStats) sent(n int, err error) {
	if err == nil {
		st.Flushed.Add(uint64(n))
		return
	}
	st.Failed.Add(uint64(n))
	st.Dropped.Add(uint64(n))
}

// room is how much of a log may wait.
func room(b Buffer) int { return max(4*b.Bytes, 1<<20) }

func (h *Hub) openTelemetryLog(c *OpenTelemetryLog) (*sentLog, closer) {
	prefix := "access_logs.open_telemetry_access_log"
	if c.StatPrefix != "" {
		prefix += "." + c.StatPrefix
	}
	resource, mark := wire.Begin(nil, 1)
	if c.Builtin {
		n := h.o.Node
		for _, a := range []Attribute{{"log_name", c.Name}, {"zone_name", n.Zone}, {"cluster_name", n.Cluster}, {"node_name", n.ID}} {
			resource = appendAttribute(resource, 1, a)
		}
	}
	resource = wire.End(append(resource, c.Resource...), mark)
	o := export.Options{Interval: constant(c.Buffer.Interval), Bytes: max(c.Buffer.Bytes, 1), Room: room(c.Buffer)}
	send := func(ctx context.Context, b export.Batch) error {
		return c.Target.Send(ctx, h.client, otlpLogsMethod, "application/x-protobuf", groups(resource, nil, b.Bytes))
	}
	if c.Target.GRPC == nil {
		st, release := stats.Shared[logStats](h.o.Stats, prefix, "", "")
		o.Dropped = func(n int) { st.Dropped.Add(uint64(n)) }
		o.Send = func(ctx context.Context, b export.Batch) {
			if send(ctx, b) != nil {
				st.Dropped.Add(uint64(b.N))
			}
		}
		queue := export.NewQueue(o)
		return &sentLog{queue, &st.Written}, closeQueue(queue, release)
	}
	st, release := stats.Shared[grpcLogStats](h.o.Stats, prefix, "", "")
	o.Dropped = func(n int) { st.Dropped.Add(uint64(n)) }
	o.Send = func(ctx context.Context, b export.Batch) {
		st.sent(b.N, c.Backoff.connected(ctx, func() error { return send(ctx, b) }))
	}
	queue := export.NewQueue(o)
	return &sentLog{queue, &st.Written}, closeQueue(queue, release)
}
