// Package orca reads the load reports that hosts send with their answers (Open Request
// Cost Aggregation, xds.data.orca.v3.OrcaLoadReport), in a header or a trailer.
//
// What is made of them is not here: see proxy/cluster.
package orca

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// Report is what a host says of its load. Utilizations are parts of 1, or more.
type Report struct {
	CPU, Memory, Application float64
	RPS, EPS                 float64 // requests and errors a second
	Named                    []Metric
}

// Metric is one value of a map of the report, under the map's name and its own:
// "named_metrics.queue", "utilization.disk", "request_cost.rows".
type Metric struct {
	Name  string
	Value float64
}

const (
	header       = "endpoint-load-metrics"
	headerBinary = "endpoint-load-metrics-bin"
	headerJSON   = "endpoint-load-metrics-json"

	maxBytes   = 64 << 10 // of a report; what is longer is none
	maxMetrics = 1000
)

// Fields are header fields, or trailers. Get returns "" for one that is not there.
type Fields interface{ Get(name string) string }

// FromFields returns the report among header fields; false if there is none that can be
// read.
func FromFields(f Fields) (r Report, ok bool) {
	if v := f.Get(headerBinary); v != "" {
		return r, r.binary(v)
	}
	if v := f.Get(headerJSON); v != "" {
		return r, r.json(v)
	}
	v := f.Get(header)
	if v == "" {
		return r, false
	}
	format, rest, found := strings.Cut(v, " ")
	switch {
	case found && format == "BIN":
		return r, r.binary(rest)
	case found && format == "JSON":
		return r, r.json(rest)
	case found && format == "TEXT":
		return r, r.text(rest)
	}
	return r, r.text(v)
}

// Utilization is the greatest of the named metrics, else that of the application, else
// of the CPU. A name that ends in ".*" is every metric of a map.
func (r *Report) Utilization(names []string) float64 {
	most := 0.0
	for _, name := range names {
		switch name {
		case "cpu_utilization":
			most = max(most, r.CPU)
		case "mem_utilization":
			most = max(most, r.Memory)
		case "application_utilization":
			most = max(most, r.Application)
		}
		all, wild := strings.CutSuffix(name, "*")
		for i := range r.Named {
			if m := &r.Named[i]; m.Name == name || wild && strings.HasPrefix(m.Name, all) {
				most = max(most, m.Value)
			}
		}
	}
	switch {
	case most > 0:
		return most
	case r.Application > 0:
		return r.Application
	}
	return r.CPU
}

// set takes a value over; false if it is none or there is no such field.
func (r *Report) set(name string, v float64) bool {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return false
	}
	switch name {
	case "cpu_utilization":
		r.CPU = v
	case "mem_utilization":
		r.Memory = v
	case "application_utilization":
		r.Application = v
	case "rps_fractional":
		r.RPS = v
	case "eps":
		r.EPS = v
	default:
		in, key, ok := strings.Cut(name, ".")
		if !ok || key == "" || in != "named_metrics" && in != "utilization" && in != "request_cost" || len(r.Named) == maxMetrics {
			return false
		}
		r.Named = append(r.Named, Metric{name, v})
	}
	return true
}

// text reads "cpu_utilization=0.3, named_metrics.queue=7"; colons will do, too.
func (r *Report) text(s string) bool {
	if len(s) > maxBytes {
		return false
	}
	var seen [8]string
	n := 0
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, ",")
		at := strings.IndexAny(pair, "=:")
		if at < 0 {
			return false
		}
		name := strings.TrimSpace(pair[:at])
		v, err := strconv.ParseFloat(strings.TrimSpace(pair[at+1:]), 64)
		if err != nil || !r.set(name, v) {
			return false
		}
		for i := range min(n, len(seen)) {
			if seen[i] == name {
				return false // which of them?
			}
		}
		if n < len(seen) {
			seen[n] = name
		}
		n++
	}
	return n > 0
}

func (r *Report) json(s string) bool {
	if len(s) > maxBytes {
		return false
	}
	var in map[string]any
	if json.Unmarshal([]byte(s), &in) != nil {
		return false
	}
	for name, v := range in {
		name = snake(name)
		switch v := v.(type) {
		case float64:
			if name != "rps" && !r.set(name, v) {
				return false
			}
		case map[string]any:
			for key, v := range v {
				f, ok := v.(float64)
				if !ok || !r.set(name+"."+key, f) {
					return false
				}
			}
		case string: // rps, which is 64 bits wide and no longer used
			if name != "rps" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// snake returns the name of a field in the form of the proto: JSON may have either.
func snake(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

func (r *Report) binary(s string) bool {
	if len(s) > maxBytes {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		if raw, err = base64.RawStdEncoding.DecodeString(s); err != nil { // gRPC leaves the padding out
			return false
		}
	}
	return r.message(raw)
}
