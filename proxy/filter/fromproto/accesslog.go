package fromproto

import (
	"errors"
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	streamlogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// AccessLogs converts a list named access_log. Nothing is opened: see
// accesslog.OpenSet.
func AccessLogs(list []*accesslogv3.AccessLog) ([]accesslog.Spec, error) {
	return AccessLogsAt("access_log", list)
}

// AccessLogsAt is AccessLogs of a field with another name.
func AccessLogsAt(field string, list []*accesslogv3.AccessLog) ([]accesslog.Spec, error) {
	var out []accesslog.Spec
	for i, pb := range list {
		s, err := accessLog(pb)
		if err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// The loggers of this build.
const (
	fileLog   = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
	stdoutLog = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
	stderrLog = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog"
)

func accessLog(pb *accesslogv3.AccessLog) (s accesslog.Spec, err error) {
	if s.Filter, err = logFilter(pb.GetFilter(), 0); err != nil {
		return s, filter.At("filter", err)
	}
	c, err := Any(pb.GetTypedConfig())
	if err != nil {
		return s, filter.At("typed_config", err)
	}
	switch c.Type {
	case fileLog:
		var m filelogv3.FileAccessLog
		if err = Unmarshal(c.Value, &m); err == nil {
			s.Path = m.Path
			s.Format, err = fileFormat(&m)
		}
	case stdoutLog:
		var m streamlogv3.StdoutAccessLog
		if err = Unmarshal(c.Value, &m); err == nil {
			s.Path = "/dev/stdout"
			s.Format, err = logFormat(m.GetLogFormat())
		}
	case stderrLog:
		var m streamlogv3.StderrAccessLog
		if err = Unmarshal(c.Value, &m); err == nil {
			s.Path = "/dev/stderr"
			s.Format, err = logFormat(m.GetLogFormat())
		}
	default:
		s.Remote, err = remoteLog(c)
	}
	return s, filter.At("typed_config", err)
}

func fileFormat(m *filelogv3.FileAccessLog) (*accesslog.Format, error) {
	switch f := m.AccessLogFormat.(type) {
	case *filelogv3.FileAccessLog_Format:
		if f.Format == "" {
			return accesslog.Compile(accesslog.DefaultFormat)
		}
		out, err := accesslog.Compile(f.Format)
		return out, filter.At("format", err)
	case *filelogv3.FileAccessLog_JsonFormat:
		return accesslog.CompileJSON(f.JsonFormat.AsMap(), accesslog.Options{})
	case *filelogv3.FileAccessLog_TypedJsonFormat:
		return accesslog.CompileJSON(f.TypedJsonFormat.AsMap(), accesslog.Options{})
	case *filelogv3.FileAccessLog_LogFormat:
		return logFormat(f.LogFormat)
	}
	return accesslog.Compile(accesslog.DefaultFormat)
}

func logFormat(pb *corev3.SubstitutionFormatString) (*accesslog.Format, error) {
	if pb == nil {
		return accesslog.Compile(accesslog.DefaultFormat)
	}
	f, err := Format(pb)
	return f, filter.At("log_format", err)
}

// maxFilterDepth bounds how deep log filters may nest.
const maxFilterDepth = 32

// logFilter converts an AccessLogFilter; nil stays nil.
// LogFilter converts an AccessLogFilter; nil, which matches everything, stays nil.
func LogFilter(pb *accesslogv3.AccessLogFilter) (accesslog.Filter, error) { return logFilter(pb, 0) }

func logFilter(pb *accesslogv3.AccessLogFilter, depth int) (accesslog.Filter, error) {
	if depth > maxFilterDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxFilterDepth)
	}
	switch f := pb.GetFilterSpecifier().(type) {
	case nil:
		if pb == nil {
			return nil, nil
		}
		return nil, errors.New("filter_specifier is required")
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		c := f.StatusCodeFilter.GetComparison()
		return accesslog.StatusCodeSetting{Op: compare(c), Value: RuntimeUint(c.GetValue(), 0)}, nil
	case *accesslogv3.AccessLogFilter_DurationFilter:
		c := f.DurationFilter.GetComparison()
		return accesslog.DurationSetting{Op: compare(c), Value: RuntimeUint(c.GetValue(), 0)}, nil
	case *accesslogv3.AccessLogFilter_NotHealthCheckFilter:
		return accesslog.NotHealthCheck{}, nil
	case *accesslogv3.AccessLogFilter_TraceableFilter:
		return accesslog.Traceable{}, nil
	case *accesslogv3.AccessLogFilter_RuntimeFilter:
		r := f.RuntimeFilter
		return accesslog.FractionSetting{
			Value: runtime.FractionSetting{Key: r.GetRuntimeKey(), Default: Fraction(r.GetPercentSampled())}, Independent: r.GetUseIndependentRandomness(),
		}, nil
	case *accesslogv3.AccessLogFilter_MetadataFilter:
		return metadataFilter(f.MetadataFilter)
	case *accesslogv3.AccessLogFilter_AndFilter:
		list, err := logFilters(f.AndFilter.GetFilters(), depth)
		return accesslog.And(list), filter.At("and_filter", err)
	case *accesslogv3.AccessLogFilter_OrFilter:
		list, err := logFilters(f.OrFilter.GetFilters(), depth)
		return accesslog.Or(list), filter.At("or_filter", err)
	case *accesslogv3.AccessLogFilter_HeaderFilter:
		h, err := Header(f.HeaderFilter.GetHeader())
		return accesslog.Header{Matcher: &h}, filter.At("header_filter.header", err)
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		return responseFlags(f.ResponseFlagFilter.GetFlags())
	case *accesslogv3.AccessLogFilter_GrpcStatusFilter:
		return grpcStatus(f.GrpcStatusFilter), nil
	case *accesslogv3.AccessLogFilter_LogTypeFilter:
		return logTypes(f.LogTypeFilter)
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		c, err := Any(f.ExtensionFilter.GetTypedConfig())
		if err == nil {
			err = fmt.Errorf("this build does not support the access log filter %q", c.Type)
		}
		return nil, filter.At("extension_filter.typed_config", err)
	default:
		return nil, fmt.Errorf("this build does not support the access log filter %T", f)
	}
}

func metadataFilter(pb *accesslogv3.MetadataFilter) (accesslog.Filter, error) {
	f := accesslog.Metadata{Absent: pb.GetMatchIfKeyNotFound() == nil || pb.GetMatchIfKeyNotFound().Value}
	if pb.GetMatcher() == nil {
		return f, nil
	}
	m, err := Metadata(pb.GetMatcher())
	f.Matcher = &m
	return f, filter.At("metadata_filter.matcher", err)
}

func logFilters(list []*accesslogv3.AccessLogFilter, depth int) ([]accesslog.Filter, error) {
	var out []accesslog.Filter
	for i, pb := range list {
		f, err := logFilter(pb, depth+1)
		if err != nil {
			return nil, filter.AtIndex("filters", i, err)
		}
		out = append(out, f)
	}
	return out, nil
}

func compare(c *accesslogv3.ComparisonFilter) accesslog.Compare {
	switch c.GetOp() {
	case accesslogv3.ComparisonFilter_GE:
		return accesslog.AtLeast
	case accesslogv3.ComparisonFilter_LE:
		return accesslog.AtMost
	case accesslogv3.ComparisonFilter_NE:
		return accesslog.NotEqual
	}
	return accesslog.Equal
}

func responseFlags(names []string) (accesslog.Filter, error) {
	var flags meta.Flag
	for i, n := range names {
		f, ok := meta.ParseFlag(n)
		if !ok {
			return nil, filter.At("response_flag_filter", filter.AtIndex("flags", i, fmt.Errorf("%q is not a response flag", n)))
		}
		flags |= f
	}
	return accesslog.ResponseFlag{Flags: flags}, nil
}

func grpcStatus(pb *accesslogv3.GrpcStatusFilter) accesslog.Filter {
	f := accesslog.GRPCStatus{Exclude: pb.GetExclude()}
	for _, s := range pb.GetStatuses() {
		if 0 <= s && s < 32 {
			f.Statuses |= 1 << s
		}
	}
	return f
}

func logTypes(pb *accesslogv3.LogTypeFilter) (accesslog.Filter, error) {
	f := accesslog.LogType{Exclude: pb.GetExclude()}
	for i, t := range pb.GetTypes() {
		if t < 0 || int32(t) > int32(accesslog.UDPSessionEnd) {
			return nil, filter.At("log_type_filter", filter.AtIndex("types", i, fmt.Errorf("this build does not know the log type %d", t)))
		}
		f.Types |= 1 << t
	}
	return f, nil
}
