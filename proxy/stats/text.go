package stats

import (
	"bufio"
	"io"
	"strconv"
)

// WriteText writes what the query selects as lines of "name: value" in the order of
// Envoy's /stats: texts (quoted), counters and gauges, histograms.
func (st *Store) WriteText(w io.Writer, q Query) error {
	out := bufio.NewWriterSize(w, 16<<10)
	found := st.collect(&q)
	var line []byte
	for i := range found {
		s := &found[i]
		line = append(append(line[:0], s.name...), ": "...)
		switch s.kind {
		case TextKind:
			line = append(line, '"')
			line = append(line, s.text...)
			line = append(line, '"')
		case HistogramKind:
			line = s.appendHistogram(line, q.Buckets)
		default:
			line = s.appendValue(line)
		}
		line = append(line, '\n')
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return out.Flush()
}

// appendHistogram appends a histogram as Envoy prints it.
func (s *series) appendHistogram(dst []byte, mode BucketMode) []byte {
	if !s.used {
		return append(dst, "No recorded values"...)
	}
	switch mode {
	case CumulativeBuckets, DisjointBuckets:
		return s.appendBuckets(dst, mode == DisjointBuckets)
	case DetailedBuckets:
		dst = append(dst[:len(dst)-1], "\n  totals="...) // no blank after the colon
		dst = appendDetails(dst, s.total)
		dst = append(dst, "\n  intervals="...)
		dst = appendDetails(dst, s.last)
		dst = append(dst, "\n  summary="...)
	}
	for i, q := range shownQuantiles() {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, 'P')
		dst = appendFloat(dst, q*100)
		dst = append(dst, '(')
		dst = appendFloat(dst, s.last.Quantile(q))
		dst = append(dst, ',')
		dst = appendFloat(dst, s.total.Quantile(q))
		dst = append(dst, ')')
	}
	return dst
}

// appendBuckets appends "B<bound>(<interval>,<total>)" for each of Envoy's buckets.
func (s *series) appendBuckets(dst []byte, disjoint bool) []byte {
	var last, total uint64
	for i, bound := range s.bounds {
		if i > 0 {
			dst = append(dst, ' ')
		}
		l, t := s.last.CountBelow(bound), s.total.CountBelow(bound)
		dst = append(dst, 'B')
		dst = strconv.AppendFloat(dst, bound, 'g', 6, 64)
		dst = append(dst, '(')
		dst = strconv.AppendUint(dst, l-last, 10)
		dst = append(dst, ',')
		dst = strconv.AppendUint(dst, t-total, 10)
		dst = append(dst, ')')
		if disjoint {
			last, total = l, t
		}
	}
	return dst
}

// appendDetails appends "lower,width:count" for each bucket.
func appendDetails(dst []byte, d Distribution) []byte {
	for i, b := range d.Buckets {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendFloat(dst, b.Lower)
		dst = append(dst, ',')
		dst = appendFloat(dst, b.Width)
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, b.Count, 10)
	}
	return dst
}
