package fromproto

import (
	"errors"
	"fmt"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	sinkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/stat_sinks/open_telemetry/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
	"github.com/mecha-mesh/mecha/proxy/telemetry"
)

// The sinks of statistics that go to clusters.
const (
	OpenTelemetrySinkType = "envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig"
	MetricsServiceType    = "envoy.config.metrics.v3.MetricsServiceConfig"
)

const (
	dropStat     = OpenTelemetrySinkType + ".DropAction"
	convertStat  = OpenTelemetrySinkType + ".ConversionAction"
	fullNameStat = "envoy.extensions.matching.common_inputs.stats.v3.StatFullNameMatchInput"
)

// OpenTelemetrySink converts a sink of that type.
func OpenTelemetrySink(raw []byte, p *filter.Parser) (*telemetry.OpenTelemetrySink, error) {
	var pb sinkv3.SinkConfig
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := Check(&pb, p, Fields{Used: []string{
		"grpc_service", "http_service", "resource_detectors", "report_counters_as_deltas", "report_histograms_as_deltas",
		"emit_tags_as_attributes", "use_tag_extracted_name", "prefix", "custom_metric_conversions", "max_data_points_per_request",
	}})
	if err != nil {
		return nil, err
	}
	s := &telemetry.OpenTelemetrySink{
		CounterDeltas: pb.ReportCountersAsDeltas, HistogramDeltas: pb.ReportHistogramsAsDeltas,
		Tags: unlessFalse(pb.EmitTagsAsAttributes), ShortNames: unlessFalse(pb.UseTagExtractedName),
		MaxPoints: int(pb.MaxDataPointsPerRequest),
	}
	if pb.Prefix != "" {
		s.Prefix = pb.Prefix + "."
	}
	if s.Target, err = Collector(pb.GetGrpcService(), pb.GetHttpService(), p); err != nil {
		return nil, err
	}
	if s.Resource, err = resource(pb.ResourceDetectors, "", p); err != nil {
		return nil, err
	}
	s.Convert, err = statConversions(pb.CustomMetricConversions, p)
	return s, filter.At("custom_metric_conversions", err)
}

// statConversions converts the matcher of conversions; nil stays nil.
func statConversions(pb *xdsmatcherv3.Matcher, p *filter.Parser) (func(name string) telemetry.Conversion, error) {
	if pb == nil {
		return nil, nil
	}
	t, err := Tree(pb, p, TreeOptions[string, telemetry.Conversion]{Input: statInput, Action: statAction})
	if err != nil {
		return nil, err
	}
	return func(name string) telemetry.Conversion {
		c, _ := t.Find(name) // without a match it is the conversion that does nothing
		return c
	}, nil
}

func statInput(c filter.Any) (TreeInput[string], error) {
	if c.Type != fullNameStat {
		return TreeInput[string]{}, noInput(c.Type, "statistic")
	}
	return TreeInput[string]{Get: func(name string, _ *tree.Scratch) tree.Value { return tree.Text(name) }}, nil
}

func statAction(_ string, c filter.Any) (out telemetry.Conversion, err error) {
	switch c.Type {
	case dropStat:
		return telemetry.Conversion{Drop: true}, nil
	case convertStat:
		var pb sinkv3.SinkConfig_ConversionAction
		if err := Unmarshal(c.Value, &pb); err != nil {
			return out, filter.At("typed_config", err)
		}
		if out.Name = pb.MetricName; out.Name == "" {
			return out, filter.At("typed_config", filter.At("metric_name", errors.New("is required")))
		}
		for i, l := range pb.StaticMetricLabels {
			one, err := proto.Marshal(l)
			if err != nil {
				return out, filter.At("typed_config", filter.AtIndex("static_metric_labels", i, err))
			}
			out.Labels = append(out.Labels, one)
		}
		return out, nil
	}
	return out, filter.At("typed_config", fmt.Errorf("this build has no action of the type %q for a statistic", c.Type))
}

// MetricsService converts a sink of that type.
func MetricsService(raw []byte, p *filter.Parser) (s *telemetry.MetricsService, err error) {
	var pb metricsv3.MetricsServiceConfig
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err = Check(&pb, p, Fields{Used: []string{
		"grpc_service", "transport_api_version", "report_counters_as_deltas", "emit_tags_as_labels", "histogram_emit_mode", "batch_size",
	}})
	if err != nil {
		return nil, err
	}
	s = &telemetry.MetricsService{
		Deltas: pb.GetReportCountersAsDeltas().GetValue(), Labels: pb.EmitTagsAsLabels, Batch: int(pb.BatchSize),
		Summary:   pb.HistogramEmitMode != metricsv3.HistogramEmitMode_HISTOGRAM,
		Histogram: pb.HistogramEmitMode != metricsv3.HistogramEmitMode_SUMMARY,
	}
	if pb.GrpcService == nil {
		return nil, filter.At("grpc_service", errors.New("is required"))
	}
	s.Service, err = GRPCService(pb.GrpcService, p)
	return s, filter.At("grpc_service", err)
}
