package telemetry_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	prometheusv1 "github.com/prometheus/client_model/go"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// receiver adds up what a sink tells it.
type receiver struct {
	collectorv1.UnimplementedMetricsServiceServer

	name           string
	grpc, tcp, udp int // ports

	mu     sync.Mutex
	series map[string]any      // values by what is told of them
	notes  map[string]struct{} // what is told beside them
	came   chan struct{}       // closed and made anew with everything that comes
}

func newReceiver(t *testing.T, name string, web *metricsWeb) *receiver {
	r := &receiver{name: name, series: map[string]any{}, notes: map[string]struct{}{}, came: make(chan struct{})}
	r.grpc = dialogue.ServeGRPC(t, func(to *grpc.Server) {
		collectorv1.RegisterMetricsServiceServer(to, r)
		metricsv3.RegisterMetricsServiceServer(to, metricsService{r: r})
	}).(*net.TCPAddr).Port
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		u.Close()
	})
	r.tcp, r.udp = l.Addr().(*net.TCPAddr).Port, u.LocalAddr().(*net.UDPAddr).Port
	go r.serveTCP(l)
	go r.serveUDP(u)
	web.to.Store("/"+name, r)
	return r
}

// told runs f, and tells who waits.
func (r *receiver) told(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.came)
	r.came = make(chan struct{})
}

func (r *receiver) note(text string) { r.notes[text] = struct{}{} }

// value notes a value; what is an addition is added.
func (r *receiver) value(key string, v int64, add bool) {
	if old, ok := r.series[key].(int64); ok && add {
		v += old
	}
	r.series[key] = v
}

// Export takes metrics of OpenTelemetry.
func (r *receiver) Export(_ context.Context, q *collectorv1.ExportMetricsServiceRequest) (*collectorv1.ExportMetricsServiceResponse, error) {
	r.told(func() { r.otlp(q) })
	return &collectorv1.ExportMetricsServiceResponse{}, nil
}

func (r *receiver) otlp(q *collectorv1.ExportMetricsServiceRequest) {
	n := 0
	for _, rm := range q.ResourceMetrics {
		r.note("resource " + pairs(rm.Resource.GetAttributes()))
		for _, sm := range rm.ScopeMetrics {
			r.note(fmt.Sprintf("scope %q %q", sm.Scope.GetName(), sm.Scope.GetVersion()))
			for _, m := range sm.Metrics {
				n += r.metric(m)
			}
		}
	}
	if r.name == "otlp-resource" && n > 2 {
		r.note(fmt.Sprintf("a request with %d data points", n))
	}
}

func (r *receiver) metric(m *metricsv1.Metric) int {
	head := fmt.Sprintf("%s unit=%q %q", m.Name, m.Unit, m.Description)
	timed := func(start, end uint64) {
		if start == 0 || end < start {
			r.note(fmt.Sprintf("%s: from %d to %d", m.Name, start, end))
		}
	}
	switch d := m.Data.(type) {
	case *metricsv1.Metric_Gauge:
		for _, p := range d.Gauge.DataPoints {
			timed(max(p.StartTimeUnixNano, 1), p.TimeUnixNano)
			r.value(head+" gauge start="+strconv.FormatBool(p.StartTimeUnixNano != 0)+" "+pairs(p.Attributes), p.GetAsInt(), false)
		}
		return len(d.Gauge.DataPoints)
	case *metricsv1.Metric_Sum:
		s := d.Sum
		for _, p := range s.DataPoints {
			timed(p.StartTimeUnixNano, p.TimeUnixNano)
			key := fmt.Sprintf("%s sum %v monotonic=%v %s", head, s.AggregationTemporality, s.IsMonotonic, pairs(p.Attributes))
			r.value(key, p.GetAsInt(), s.AggregationTemporality == metricsv1.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA)
		}
		return len(s.DataPoints)
	case *metricsv1.Metric_Histogram:
		h := d.Histogram
		for _, p := range h.DataPoints {
			timed(p.StartTimeUnixNano, p.TimeUnixNano)
			key := fmt.Sprintf("%s histogram %v %s bounds=%v", head, h.AggregationTemporality, pairs(p.Attributes), p.ExplicitBounds)
			add := h.AggregationTemporality == metricsv1.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
			r.value(key+" count", int64(p.Count), add)
			r.value(key+" sum", int64(p.GetSum()), add)
			for i, c := range p.BucketCounts {
				if c > 0 {
					r.value(fmt.Sprintf("%s bucket %d of %d", key, i, len(p.BucketCounts)), int64(c), add)
				}
			}
		}
		return len(h.DataPoints)
	}
	r.note(fmt.Sprintf("%s: %T", head, m.Data))
	return 1
}

func pairs(list []*commonv1.KeyValue) string {
	var out []string
	for _, kv := range list {
		value := kv.Value.GetStringValue()
		if kv.Key == "telemetry.sdk.language" || kv.Key == "telemetry.sdk.version" {
			value = "some"
		}
		out = append(out, kv.Key+"="+value)
	}
	slices.Sort(out)
	return fmt.Sprint(out)
}

// metricsService takes metrics of Envoy's service.
type metricsService struct {
	metricsv3.UnimplementedMetricsServiceServer
	r *receiver
}

func (s metricsService) StreamMetrics(stream metricsv3.MetricsService_StreamMetricsServer) error {
	for first := true; ; first = false {
		m, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&metricsv3.StreamMetricsResponse{})
		}
		if err != nil {
			return err
		}
		s.r.told(func() {
			if first {
				s.r.note("node " + m.Identifier.GetNode().GetId())
			} else if m.Identifier != nil {
				s.r.note("identifier again")
			}
			if n := len(m.EnvoyMetrics); s.r.name == "metrics-labels" && n > 2 {
				s.r.note(fmt.Sprintf("a message with %d metrics", n))
			}
			for _, f := range m.EnvoyMetrics {
				s.r.family(f)
			}
		})
	}
}

func (r *receiver) family(f *prometheusv1.MetricFamily) {
	for _, m := range f.Metric {
		var labels []string
		for _, l := range m.Label {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		slices.Sort(labels)
		key := fmt.Sprintf("%s %s %q timed=%v %v", f.GetName(), f.GetType(), f.GetHelp(), m.TimestampMs != nil, labels)
		switch {
		case m.Counter != nil:
			r.value(key, int64(m.Counter.GetValue()), r.name == "metrics-labels")
		case m.Gauge != nil:
			r.value(key, int64(m.Gauge.GetValue()), false)
		case m.Summary != nil:
			var qs []float64
			for _, q := range m.Summary.Quantile {
				qs = append(qs, q.GetQuantile())
			}
			r.value(fmt.Sprintf("%s %v count", key, qs), int64(m.Summary.GetSampleCount()), true)
			r.value(key+" sum", int64(m.Summary.GetSampleSum()), true)
		case m.Histogram != nil:
			r.value(key+" count", int64(m.Histogram.GetSampleCount()), true)
			r.value(key+" sum", int64(m.Histogram.GetSampleSum()), true)
			for _, b := range m.Histogram.Bucket {
				r.value(fmt.Sprintf("%s to %10v", key, b.GetUpperBound()), int64(b.GetCumulativeCount()), true)
			}
		}
	}
}

func (r *receiver) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				r.told(func() { r.line(lines.Text()) })
			}
		}()
	}
}

func (r *receiver) serveUDP(c net.PacketConn) {
	b := make([]byte, 64<<10)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		r.told(func() {
			for line := range strings.SplitSeq(string(b[:n]), "\n") {
				r.line(line)
			}
		})
	}
}

// line takes a line of statsd: NAME:VALUE|TYPE with more behind it.
func (r *receiver) line(line string) {
	name, rest, _ := strings.Cut(line, "|#")
	if strings.Contains(line, "|#") {
		tags := strings.Split(rest, ",")
		slices.Sort(tags)
		rest = " " + strings.Join(tags, ",")
	}
	head, value, _ := strings.Cut(name, "|")
	at := strings.LastIndexByte(head, ':')
	parts := strings.Split(head[:max(at, 0)], ";")
	slices.Sort(parts[1:])
	n, err := strconv.ParseInt(head[at+1:], 10, 64)
	if at < 0 || err != nil {
		r.note(fmt.Sprintf("strange: %q", line))
		return
	}
	kind, share, sampled := strings.Cut(value, "|@")
	if kind == "ms" { // how often each value
		head, n = fmt.Sprintf("%s %d", head, n), 1
		if f, err := strconv.ParseFloat(share, 64); sampled && err == nil {
			n = int64(1/f + 0.5)
		}
		parts = append(parts, head[at+1:])
	}
	r.value(strings.Join(parts, ";")+" "+kind+rest, n, kind != "g")
}

// metricsWeb takes metrics of OpenTelemetry over HTTP.
type metricsWeb struct {
	port int
	to   sync.Map // of *receiver, by path
}

func newMetricsWeb(t *testing.T) *metricsWeb {
	w := &metricsWeb{}
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	w.port = s.Listener.Addr().(*net.TCPAddr).Port
	return w
}

func (w *metricsWeb) ServeHTTP(rw http.ResponseWriter, q *http.Request) {
	to, ok := w.to.Load(q.URL.Path)
	body, err := io.ReadAll(q.Body)
	var m collectorv1.ExportMetricsServiceRequest
	if !ok || err != nil || proto.Unmarshal(body, &m) != nil {
		http.Error(rw, "what is this", http.StatusBadRequest)
		return
	}
	r := to.(*receiver)
	r.told(func() {
		r.note(fmt.Sprintf("%s %s %s %s", q.Method, q.Host, q.Header.Get("content-type"), q.Header.Get("x-token")))
		r.otlp(&m)
	})
}
