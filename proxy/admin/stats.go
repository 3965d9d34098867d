package admin

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// statsFormat is what /stats?format= asks for.
type statsFormat uint8

const (
	textFormat statsFormat = iota
	jsonFormat
	prometheusFormat
)

func (s *Server) serveStats(w http.ResponseWriter, r *http.Request) {
	s.writeStats(w, ParseParams(r.URL.RawQuery), textFormat)
}

func (s *Server) servePrometheus(w http.ResponseWriter, r *http.Request) {
	s.writeStats(w, ParseParams(r.URL.RawQuery), prometheusFormat)
}

func (s *Server) writeStats(w http.ResponseWriter, ps Params, format statsFormat) {
	if format != prometheusFormat {
		f, err := parseStatsFormat(ps)
		if err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
		format = f
	}
	q, err := parseQuery(ps, format)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	switch format {
	case jsonFormat:
		w.Header().Set("Content-Type", asked)
		err = s.cfg.Stats.WriteJSON(w, q)
	case prometheusFormat:
		err = s.cfg.Stats.WritePrometheus(w, q)
	default:
		err = s.cfg.Stats.WriteText(w, q)
	}
	if err != nil {
		s.cfg.Log.Debug("admin: stats: the client went away", "error", err)
	}
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
		return 0, errors.New("usage: /stats?format=(json|prometheus|text)\n")
	}
}

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
	if format == prometheusFormat {
		switch mode := ps.Get("histogram_buckets"); mode {
		case "", "cumulative", "prometheusnative":
		case "summary":
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
		return q, errors.New("usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n")
	}
	q.Buckets = mode
	return q, nil
}
