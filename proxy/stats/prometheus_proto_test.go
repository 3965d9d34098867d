package stats

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// The bytes are those of Envoy 1.40 for the same values, but for the sum, which is
// exact here.
func TestPrometheusProto(t *testing.T) {
	st := NewStore()
	st.SetBuckets([]BucketRule{{func(string) bool { return true }, []float64{1, 20.5, 300, 7000}}})
	h := st.Scope("cluster").Tag("envoy_cluster_name", "web").Histogram("upstream_rq_body_size", "Size.")
	for _, v := range []uint64{
		0, 1, 3, 7, 9, 10, 11, 20, 21, 33, 99, 100, 105, 250, 251, 255, 300, 305, 999, 1000, 2500, 4999, 5000, 5049, 12345, 70000,
	} {
		h.Record(v)
	}
	var out bytes.Buffer
	if err := st.WritePrometheusProto(&out, Query{}); err != nil {
		t.Fatal(err)
	}
	const want = "85010a23656e766f795f636c75737465725f757073747265616d5f72715f626f64795f73697a651804225c0a190a12656e766f795f636c75737465725f6e616d" +
		"6512037765623a3f081a11SUM1a0b080211000000000000f03f1a0b08081100000000008034401a0b0812110000000000c072401a0b081811000000000058bb40"
	got := hex.EncodeToString(out.Bytes())
	if head, tail, _ := strings.Cut(want, "SUM"); !strings.HasPrefix(got, head) || got[len(head)+16:] != tail {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	d := h.Snapshot()
	index, count, zero := nativeBucketsOf(&d, 2)
	if want := []int{0, 7, 12, 13, 14, 18, 21, 27, 32, 33, 40, 46, 50, 55, 65}; !slices.Equal(index, want) || zero != 1 {
		t.Errorf("native buckets %v (%d at zero), Envoy's are %v", index, zero, want)
	}
	if want := []uint64{1, 1, 1, 1, 2, 2, 1, 3, 3, 2, 2, 1, 3, 1, 1}; !slices.Equal(count, want) {
		t.Errorf("native counts %v, Envoy's are %v", count, want)
	}
	var native bytes.Buffer
	if err := st.WritePrometheusProto(&native, Query{Buckets: NativeBuckets}); err != nil || native.Len() < 100 {
		t.Errorf("native: %d bytes, %v", native.Len(), err)
	}
}

// A native histogram counts each value once.
func TestNativeCountsEverything(t *testing.T) {
	var h Histogram
	for v := range uint64(100000) {
		h.Record(v * v)
	}
	d := h.Snapshot()
	for schema := coarsestSchema; schema <= finestSchema; schema++ {
		_, count, sum := nativeBucketsOf(&d, schema)
		for _, n := range count {
			sum += n
		}
		if sum != d.Count {
			t.Errorf("schema %d has %d values of %d", schema, sum, d.Count)
		}
	}
}
