package admin

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// statsFormat is what /stats?format= asks for.
type statsFormat uint8

const (
	textFormat statsFormat = iota
	jsonFormat
	prometheusFormat
	protoFormat // Prometheus' protobuf exposition
)

func (s *Server) serveStats(w http.ResponseWriter, r *http.Request) {
	s.writeStats(w, r, textFormat)
}

func (s *Server) servePrometheus(w http.ResponseWriter, r *http.Request) {
	s.writeStats(w, r, prometheusFormat)
}

func (s *Server) writeStats(w http.ResponseWriter, r *http.Request, format statsFormat) {
	ps := ParseParams(r.URL.RawQuery)
	if format != prometheusFormat {
		f, err := parseStatsFormat(ps)
		if err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		format = f
	}
	if format == prometheusFormat && wantsProto(r.Header.Values("Accept")) {
		format = protoFormat
	}
	q, err := parseQuery(ps, format)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if s.cfg.OnRead != nil {
		s.cfg.OnRead()
	}
	switch format {
	case jsonFormat:
		w.Header().Set("Content-Type", asked)
		err = s.cfg.Stats.WriteJSON(w, q)
	case prometheusFormat:
		err = s.cfg.Stats.WritePrometheus(w, q)
	case protoFormat:
		w.Header().Set("Content-Type", protoType+"; proto=io.prometheus.client.MetricFamily; encoding=delimited")
		err = s.cfg.Stats.WritePrometheusProto(w, q)
	default:
		err = s.cfg.Stats.WriteText(w, q)
	}
	if err != nil {
		s.cfg.Log.Debug("admin: stats: the client went away", "error", err)
	}
}

const protoType = "application/vnd.google.protobuf"

// wantsProto reports whether Accept names Prometheus' protobuf exposition, and nothing
// that it likes better. Envoy knows no OpenMetrics text, and neither do we.
func wantsProto(accept []string) bool {
	proto, text := 0.0, 0.0
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			media, params, _ := strings.Cut(strings.TrimSpace(part), ";")
			q := 1.0
			if _, v, ok := strings.Cut(strings.ReplaceAll(";"+params, " ", ""), ";q="); ok {
				v, _, _ = strings.Cut(v, ";")
				if f, err := strconv.ParseFloat(v, 64); err == nil {
					q = f
				}
			}
			switch strings.TrimSpace(media) {
			case protoType:
				proto = max(proto, q)
			case "text/plain":
				text = max(text, q)
			}
		}
	}
	return proto > 0 && proto >= text
}

func parseStatsFormat(ps Params) (statsFormat, error) {
	switch f := ps.Get("format"); f {
	case "", "text", "html", "active-html":
		return textFormat, nil // there is no HTML rendering: text reads well in a browser
	case "json":
		return jsonFormat, nil
	case "prometheus":
		return prometheusFormat, nil
	default:
		return 0, errors.New("usage: /stats?format=(html|active-html|json|prometheus|text)\n")
	}
}

func everything() *regexp.Regexp { return regexp.MustCompile("") }

// parseQuery reads the parameters that say what to write.
func parseQuery(ps Params, format statsFormat) (stats.Query, error) {
	q := stats.Query{
		UsedOnly:     ps.Has("usedonly"),
		Invert:       ps.Has("invert_filter"),
		TextReadouts: ps.Has("text_readouts"),
	}
	if f := ps.Get("filter"); f != "" {
		re, err := regexp.Compile(f)
		if err != nil {
			return q, fmt.Errorf("Invalid re2 regex: %w", err)
		}
		q.Filter = re
	}
	switch ps.Get("hidden") {
	case "", "exclude", "include": // nothing is hidden
	case "only":
		q.Filter, q.Invert = everything(), true
	default:
		return q, errors.New("usage: /stats?hidden=(include|only|exclude)\n")
	}
	if format == prometheusFormat || format == protoFormat {
		switch mode := ps.Get("histogram_buckets"); mode {
		case "", "cumulative":
		case "prometheusnative":
			if format != protoFormat {
				return q, errors.New("unsupported prometheusnative histogram type when not using protobuf exposition format")
			}
			q.Buckets = stats.NativeBuckets
		case "summary", "none":
			q.Buckets = stats.SummaryBuckets
		default:
			return q, errors.New("unsupported prometheus histogram bucket mode")
		}
		return q, nil
	}
	kind, ok := map[string]stats.Kind{
		"": stats.AnyKind, "All": stats.AnyKind, "Counters": stats.CounterKind, "Gauges": stats.GaugeKind,
		"TextReadouts": stats.TextKind, "Histograms": stats.HistogramKind,
	}[ps.Get("type")]
	if !ok {
		return q, errors.New("invalid &type= param")
	}
	q.Kind = kind
	mode, ok := map[string]stats.BucketMode{
		"": stats.NoBuckets, "none": stats.NoBuckets, "summary": stats.SummaryBuckets,
		"cumulative": stats.CumulativeBuckets, "disjoint": stats.DisjointBuckets, "detailed": stats.DetailedBuckets,
	}[ps.Get("histogram_buckets")]
	if !ok {
		return q, errors.New("usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n")
	}
	q.Buckets = mode
	return q, nil
}
