package telemetry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/export"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/stats/statsd"
)

// The sinks of statistics that go to clusters: plain, validated, immutable.
type (
	// OpenTelemetrySink is envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig.
	OpenTelemetrySink struct {
		Target          export.Target
		Resource        []Attribute
		Prefix          string // with the dot behind it
		CounterDeltas   bool
		HistogramDeltas bool
		Tags            bool // emit_tags_as_attributes
		ShortNames      bool // use_tag_extracted_name
		MaxPoints       int  // max_data_points_per_request; 0 is no limit
		// Convert says what becomes of a statistic (custom_metric_conversions); nil: all stay as they are.
		Convert func(name string) Conversion
	}
	// MetricsService is envoy.config.metrics.v3.MetricsServiceConfig.
	MetricsService struct {
		Service            call.GRPC
		Deltas             bool // report_counters_as_deltas
		Labels             bool // emit_tags_as_labels
		Summary, Histogram bool // histogram_emit_mode
		Batch              int  // batch_size; 0 is no limit
	}
)

// Conversion is what becomes of a statistic.
type Conversion struct {
	Drop   bool
	Name   string   // "" leaves the name as it is
	Labels [][]byte // more attributes, each a KeyValue
}

// sinkStats count what a sink has sent. Envoy has no such counters.
type sinkStats struct {
	Sent    stats.Counter `stat:"messages_sent" help:"Messages with statistics that the service has taken"`
	Failed  stats.Counter `stat:"messages_failed" help:"Messages with statistics that the service has not taken"`
	Dropped stats.Counter `stat:"flushes_dropped" help:"Intervals of which nothing was sent, since those before still were"`
}

// sink takes what statistics have come to.
type sink interface {
	// Flush returns at once. The samples are shared.
	Flush(samples []stats.Sample)
	// Close sends what is left, until ctx ends.
	Close(ctx context.Context)
}

// Sinks are those of a process (stats_sinks).
type Sinks struct {
	st      *stats.Store
	sampler *stats.Sampler
	all     []sink
	mu      sync.Mutex // one flush at a time
	closed  bool
}

// Sinks opens the sinks of a configuration, which are of statsd.Config and the types above.
// An error says which one of them could not be opened.
func (h *Hub) Sinks(configs []any) (s *Sinks, at int, err error) {
	s = &Sinks{st: h.o.Stats, sampler: stats.NewSampler(h.o.Stats)}
	for i, config := range configs {
		one, err := h.sink(config)
		if err != nil {
			s.Close(context.Background())
			return nil, i, err
		}
		s.all = append(s.all, one)
	}
	return s, 0, nil
}

func (h *Hub) sink(config any) (sink, error) {
	switch c := config.(type) {
	case *statsd.Config:
		if c.Cluster != "" {
			return h.tcpStatsd(c), nil
		}
		s, err := statsd.Open(*c, h.o.Stats)
		return datagrams{s}, err
	case *OpenTelemetrySink:
		return h.openTelemetrySink(c), nil
	case *MetricsService:
		return h.metricsService(c), nil
	}
	return nil, fmt.Errorf("telemetry: no sink for %T", config)
}

// datagrams is a sink for which nothing waits.
type datagrams struct{ *statsd.Sink }

func (d datagrams) Close(context.Context) { d.Sink.Close() }

// Flush ends an interval and tells the sinks of it. It does not wait for them.
func (s *Sinks) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.st.Flush()
	if len(s.all) == 0 || s.closed {
		return
	}
	samples := s.sampler.Sample()
	for _, one := range s.all {
		one.Flush(samples)
	}
}

// Run flushes in intervals until ctx ends.
func (s *Sinks) Run(ctx context.Context, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.Flush()
		}
	}
}

// Close closes the sinks, which send what they have until ctx ends. It may be called once.
func (s *Sinks) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, one := range s.all {
		wg.Go(func() { one.Close(ctx) })
	}
	wg.Wait()
}
