package stats

import (
	"bufio"
	"encoding/json"
	"io"
	"math"
	"strconv"
)

// WriteJSON writes what the query selects as Envoy's /stats?format=json:
// {"stats":[{"name":..,"value":..},..,{"histograms":..}]}.
func (st *Store) WriteJSON(w io.Writer, q Query) error {
	out := bufio.NewWriterSize(w, 16<<10)
	out.WriteString(`{"stats":[`) // errors stay in out until Flush
	found := st.collect(&q)
	split := len(found)
	for split > 0 && found[split-1].kind == HistogramKind {
		split--
	}
	var buf []byte
	for i := range found[:split] {
		s := &found[i]
		if buf = buf[:0]; i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(append(buf, `{"name":`...), s.name), `,"value":`...)
		if s.kind == TextKind {
			buf = appendString(buf, s.text)
		} else {
			buf = s.appendValue(buf)
		}
		out.Write(append(buf, '}'))
	}
	if hists := found[split:]; len(hists) > 0 {
		if split > 0 {
			out.WriteByte(',')
		}
		out.WriteString(`{"histograms":`)
		switch q.Buckets {
		case CumulativeBuckets, DisjointBuckets:
			writeBucketsJSON(out, hists, q.Buckets == DisjointBuckets)
		case DetailedBuckets:
			writeDetailsJSON(out, hists)
		default:
			writeQuantilesJSON(out, hists)
		}
		out.WriteByte('}')
	}
	out.WriteString("]}")
	return out.Flush()
}

func writeBucketsJSON(out *bufio.Writer, hists []series, disjoint bool) {
	var buf []byte
	out.WriteByte('[')
	for i := range hists {
		h := &hists[i]
		if buf = buf[:0]; i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(append(buf, `{"name":`...), h.name), `,"buckets":[`...)
		var last, total uint64
		for j, bound := range h.bounds {
			if j > 0 {
				buf = append(buf, ',')
			}
			l, t := h.last.CountBelow(bound), h.total.CountBelow(bound)
			buf = appendFloat(append(buf, `{"upper_bound":`...), bound)
			buf = strconv.AppendUint(append(buf, `,"interval":`...), l-last, 10)
			buf = strconv.AppendUint(append(buf, `,"cumulative":`...), t-total, 10)
			buf = append(buf, '}')
			if disjoint {
				last, total = l, t
			}
		}
		out.Write(append(buf, "]}"...))
	}
	out.WriteByte(']')
}

func writeQuantilesJSON(out *bufio.Writer, hists []series) {
	buf := appendPercents([]byte(`{"supported_quantiles":`))
	out.Write(append(buf, `,"computed_quantiles":[`...))
	for i := range hists {
		h := &hists[i]
		if buf = buf[:0]; i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(append(buf, `{"name":`...), h.name), `,"values":`...)
		buf = h.appendQuantilesJSON(buf)
		out.Write(append(buf, '}'))
	}
	out.WriteString("]}")
}

func writeDetailsJSON(out *bufio.Writer, hists []series) {
	buf := appendPercents([]byte(`{"supported_percentiles":`))
	out.Write(append(buf, `,"details":[`...))
	for i := range hists {
		h := &hists[i]
		if buf = buf[:0]; i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(append(buf, `{"name":`...), h.name), `,"totals":`...)
		buf = appendDetailsJSON(buf, h.total)
		buf = appendDetailsJSON(append(buf, `,"intervals":`...), h.last)
		buf = h.appendQuantilesJSON(append(buf, `,"percentiles":`...))
		out.Write(append(buf, '}'))
	}
	out.WriteString("]}")
}

func appendDetailsJSON(buf []byte, d Distribution) []byte {
	buf = append(buf, '[')
	for i, b := range d.Buckets {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendFloat(append(buf, `{"lower_bound":`...), b.Lower)
		buf = appendFloat(append(buf, `,"width":`...), b.Width)
		buf = strconv.AppendUint(append(buf, `,"count":`...), b.Count, 10)
		buf = append(buf, '}')
	}
	return append(buf, ']')
}

func (s *series) appendQuantilesJSON(buf []byte) []byte {
	buf = append(buf, '[')
	for i, q := range shownQuantiles() {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendNumber(append(buf, `{"cumulative":`...), s.total.Quantile(q))
		buf = appendNumber(append(buf, `,"interval":`...), s.last.Quantile(q))
		buf = append(buf, '}')
	}
	return append(buf, ']')
}

func appendPercents(buf []byte) []byte {
	buf = append(buf, '[')
	for i, q := range shownQuantiles() {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendFloat(buf, q*100)
	}
	return append(buf, ']')
}

// appendNumber appends f, null if there is none.
func appendNumber(buf []byte, f float64) []byte {
	if math.IsNaN(f) {
		return append(buf, "null"...)
	}
	return appendFloat(buf, f)
}

func appendString(buf []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return append(buf, `""`...)
	}
	return append(buf, q...)
}
