package stats

import (
	"bufio"
	"cmp"
	"io"
	"slices"
	"strconv"
)

// WritePrometheus writes what the query selects in Prometheus' text format 0.0.4
// under Envoy's names: "envoy_" and the family with everything outside
// [a-zA-Z0-9_] as "_". Query.Buckets may be NoBuckets, CumulativeBuckets or
// SummaryBuckets; the other modes are written as cumulative.
func (st *Store) WritePrometheus(w io.Writer, q Query) error {
	out := bufio.NewWriterSize(w, 16<<10)
	p := promWriter{summary: q.Buckets == SummaryBuckets}
	err := st.eachFamily(&q, func(group []series, fixed []Label) error {
		p.family(group, fixed)
		_, err := out.Write(p.buf)
		return err
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// eachFamily calls f with the series of each family that the query selects, in one
// piece, or the scrape would fail.
func (st *Store) eachFamily(q *Query, f func(group []series, fixed []Label) error) error {
	st.mu.RLock()
	fixed, most := st.fixed, st.most
	st.mu.RUnlock()
	found := st.collect(q)
	if !q.TextReadouts {
		found = slices.DeleteFunc(found, func(s series) bool { return s.kind == TextKind })
	}
	slices.SortStableFunc(found, func(a, b series) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.family, b.family))
	})
	folded := 0
	for group := range families(found) {
		group, n := fold(group, most)
		folded += n
		if err := f(group, fixed); err != nil {
			return err
		}
	}
	st.folded.Set(int64(folded))
	return nil
}

// families yields the series that have one kind and one family name in Prometheus,
// in the order of the first of them.
func families(found []series) func(yield func([]series) bool) {
	type key struct {
		name string
		kind Kind
	}
	at := map[key]int{}
	var groups [][]series
	start := 0
	for i := range found {
		if last := i+1 == len(found); !last && found[i+1].family == found[i].family && found[i+1].kind == found[i].kind {
			continue
		}
		piece := found[start : i+1 : i+1]
		start = i + 1
		k := key{string(appendPromName(nil, piece[0].family)), piece[0].kind}
		if j, ok := at[k]; ok {
			groups[j] = append(groups[j], piece...)
			continue
		}
		at[k] = len(groups)
		groups = append(groups, piece)
	}
	return slices.Values(groups)
}

// promWriter puts a family together.
type promWriter struct {
	buf, name []byte
	summary   bool
}

func (p *promWriter) family(group []series, fixed []Label) {
	first := &group[0]
	p.name = appendPromName(append(p.name[:0], "envoy_"...), first.family)
	p.buf = append(append(append(p.buf[:0], "# TYPE "...), p.name...), ' ')
	switch {
	case first.kind == CounterKind:
		p.buf = append(p.buf, "counter\n"...)
	case first.kind != HistogramKind:
		p.buf = append(p.buf, "gauge\n"...)
	case p.summary:
		p.buf = append(p.buf, "summary\n"...)
	default:
		p.buf = append(p.buf, "histogram\n"...)
	}
	for i := range merged(group, fixed) {
		s := &group[i]
		switch s.kind {
		case HistogramKind:
			p.histogram(s, fixed)
		case TextKind:
			p.line("", s.labels, fixed, "text_value", appendPromValue(nil, s.text))
			p.buf = append(p.buf, "0\n"...)
		default:
			p.line("", s.labels, fixed, "", nil)
			p.buf = append(s.appendValue(p.buf), '\n')
		}
	}
}

// merged yields the indices of the series to write. Different dotted names can come
// to the same labels ("a.b" and "a_b"); a series that is there twice makes
// Prometheus refuse the whole scrape, so they are added up in the first.
func merged(group []series, fixed []Label) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		if len(group) == 1 {
			yield(0)
			return
		}
		at := make(map[string]int, len(group))
		var keep []int
		var key []byte
		for i := range group {
			key = appendLabels(key[:0], group[i].labels, fixed)
			j, dup := at[string(key)]
			if !dup {
				at[string(key)] = i
				keep = append(keep, i)
				continue
			}
			group[j].value += group[i].value
			group[j].total.Merge(group[i].total)
			group[j].last.Merge(group[i].last)
		}
		for _, i := range keep {
			if !yield(i) {
				return
			}
		}
	}
}

func (p *promWriter) histogram(s *series, fixed []Label) {
	var bound []byte
	shown := &s.total
	if p.summary {
		shown = &s.last // as Envoy does: quantiles are those of the last interval
		for _, q := range shownQuantiles() {
			bound = appendFloat(bound[:0], q)
			p.line("", s.labels, fixed, "quantile", bound)
			p.buf = append(appendFloat(p.buf, shown.Quantile(q)), '\n')
		}
	} else {
		for _, le := range s.bounds {
			bound = appendFloat(bound[:0], le)
			p.line("_bucket", s.labels, fixed, "le", bound)
			p.buf = append(strconv.AppendUint(p.buf, shown.CountBelow(le), 10), '\n')
		}
		p.line("_bucket", s.labels, fixed, "le", append(bound[:0], "+Inf"...))
		p.buf = append(strconv.AppendUint(p.buf, shown.Count, 10), '\n')
	}
	p.line("_sum", s.labels, fixed, "", nil)
	p.buf = append(strconv.AppendUint(p.buf, shown.Sum, 10), '\n')
	p.line("_count", s.labels, fixed, "", nil)
	p.buf = append(strconv.AppendUint(p.buf, shown.Count, 10), '\n')
}

// line appends everything up to the value, with one more label, whose value is
// escaped already, if extra is not "".
func (p *promWriter) line(suffix string, labels, fixed []Label, extra string, value []byte) {
	p.buf = append(append(append(p.buf, p.name...), suffix...), '{')
	before := len(p.buf)
	p.buf = appendLabels(p.buf, labels, fixed)
	if extra != "" {
		if len(p.buf) > before {
			p.buf = append(p.buf, ',')
		}
		p.buf = append(append(p.buf, extra...), `="`...)
		p.buf = append(append(p.buf, value...), '"')
	}
	p.buf = append(p.buf, "} "...)
}

// appendLabels appends the fixed labels, then the others from the innermost scope
// outwards, as Envoy does.
func appendLabels(dst []byte, labels, fixed []Label) []byte {
	start := len(dst)
	add := func(l Label) {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(appendPromName(dst, l.Name), `="`...)
		dst = append(appendPromValue(dst, l.Value), '"')
	}
	for _, l := range fixed {
		add(l)
	}
	for _, l := range slices.Backward(labels) {
		add(l)
	}
	return dst
}

func appendPromName(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			c = '_'
		}
		dst = append(dst, c)
	}
	return dst
}

func appendPromValue(dst []byte, s string) []byte {
	for i := range len(s) {
		switch s[i] {
		case '\\', '"':
			dst = append(dst, '\\', s[i])
		case '\n':
			dst = append(dst, `\n`...)
		default:
			dst = append(dst, s[i])
		}
	}
	return dst
}
