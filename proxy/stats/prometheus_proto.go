package stats

import (
	"encoding/binary"
	"io"
	"math"
	"slices"
)

// WritePrometheusProto writes what the query selects as io.prometheus.client.MetricFamily
// messages, each after its length. With Query.Buckets NativeBuckets histograms are
// native ones. The few fields that are needed are encoded here: statistics do not
// depend on protobuf.
func (st *Store) WritePrometheusProto(w io.Writer, q Query) error {
	var body, out []byte
	err := st.eachFamily(&q, func(group []series, fixed []Label) error {
		body = appendFamily(body[:0], group, fixed, q.Buckets)
		out = append(binary.AppendUvarint(out[:0], uint64(len(body))), body...)
		_, err := w.Write(out)
		return err
	})
	return err
}

// What follows appends fields of protobuf's wire format.

func appendVarintField(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3), v)
}

func appendDoubleField(b []byte, field int, v float64) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, uint64(field)<<3|1), math.Float64bits(v))
}

func appendBytesField[T string | []byte](b []byte, field int, v T) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3|2), uint64(len(v)))
	return append(b, v...)
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// appendFamily appends a MetricFamily.
func appendFamily(b []byte, group []series, fixed []Label, mode BucketMode) []byte {
	first := &group[0]
	b = appendBytesField(b, 1, appendPromName([]byte("envoy_"), first.family))
	var kind uint64 // MetricType
	switch {
	case first.kind == CounterKind:
	case first.kind != HistogramKind:
		kind = 1
	case mode == SummaryBuckets:
		kind = 2
	default:
		kind = 4
	}
	if kind != 0 {
		b = appendVarintField(b, 3, kind)
	}
	var one []byte
	for i := range merged(group, fixed) {
		one = appendMetric(one[:0], &group[i], fixed, mode)
		b = appendBytesField(b, 4, one)
	}
	return b
}

// appendMetric appends a Metric.
func appendMetric(b []byte, s *series, fixed []Label, mode BucketMode) []byte {
	add := func(name, value string) {
		pair := appendBytesField(nil, 1, appendPromName(nil, name))
		b = appendBytesField(b, 1, appendBytesField(pair, 2, value))
	}
	for _, l := range fixed {
		add(l.Name, l.Value)
	}
	for _, l := range slices.Backward(s.labels) {
		add(l.Name, l.Value)
	}
	switch {
	case s.kind == CounterKind:
		return appendBytesField(b, 3, appendDoubleField(nil, 1, float64(s.value)))
	case s.kind == GaugeKind:
		return appendBytesField(b, 2, appendDoubleField(nil, 1, float64(int64(s.value))))
	case s.kind == TextKind:
		add("text_value", s.text)
		return appendBytesField(b, 2, appendDoubleField(nil, 1, 0))
	case mode == SummaryBuckets:
		return appendBytesField(b, 4, appendSummary(nil, s))
	}
	h := appendDoubleField(appendVarintField(nil, 1, s.total.Count), 2, float64(s.total.Sum))
	if mode == NativeBuckets {
		return appendBytesField(b, 7, appendNative(h, &s.total))
	}
	for _, bound := range s.bounds {
		h = appendBytesField(h, 3, appendDoubleField(appendVarintField(nil, 1, s.total.CountBelow(bound)), 2, bound))
	}
	return appendBytesField(b, 7, h)
}

// appendSummary appends the fields of a Summary: of the last interval, as Envoy does.
func appendSummary(b []byte, s *series) []byte {
	b = appendDoubleField(appendVarintField(b, 1, s.last.Count), 2, float64(s.last.Sum))
	for _, q := range shownQuantiles() {
		b = appendBytesField(b, 3, appendDoubleField(appendDoubleField(nil, 1, q), 2, s.last.Quantile(q)))
	}
	return b
}

const (
	finestSchema   = 5
	coarsestSchema = -4
	nativeBuckets  = 20 // as many as Envoy's have at most
	zeroThreshold  = 0.5
)

// appendNative appends the buckets of a native histogram, as fine as nativeBuckets of
// them allow. Bucket i of schema n ends at 2^(i/2^n).
func appendNative(b []byte, d *Distribution) []byte {
	schema := finestSchema
	var index []int
	var count []uint64
	var zero uint64
	for ; ; schema-- {
		index, count, zero = nativeBucketsOf(d, schema)
		if len(index) <= nativeBuckets || schema == coarsestSchema {
			break
		}
	}
	b = appendVarintField(b, 5, zigzag(int64(schema)))
	b = appendDoubleField(b, 6, zeroThreshold)
	b = appendVarintField(b, 7, zero)
	var deltas []byte
	last, next := uint64(0), 0
	for i := 0; i < len(index); {
		end := i + 1
		for end < len(index) && index[end] == index[end-1]+1 {
			end++
		}
		span := appendVarintField(nil, 1, zigzag(int64(index[i]-next)))
		b = appendBytesField(b, 12, appendVarintField(span, 2, uint64(end-i)))
		for ; i < end; i++ {
			deltas = appendVarintField(deltas, 13, zigzag(int64(count[i]-last)))
			last, next = count[i], index[i]+1
		}
	}
	return append(b, deltas...)
}

// nativeBucketsOf counts the values of d by the buckets of a schema.
func nativeBucketsOf(d *Distribution, schema int) (index []int, count []uint64, zero uint64) {
	for _, b := range d.Buckets {
		v := b.Lower // what most values of a bucket are: they come as whole numbers
		if v <= zeroThreshold {
			zero += b.Count
			continue
		}
		i := int(math.Ceil(math.Ldexp(math.Log2(v), schema)))
		if n := len(index); n > 0 && index[n-1] == i {
			count[n-1] += b.Count
			continue
		}
		index, count = append(index, i), append(count, b.Count)
	}
	return index, count, zero
}
