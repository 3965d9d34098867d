package stats

import (
	"slices"
	"testing"
)

type sampled struct {
	Requests Counter     `stat:"rq" help:"requests"`
	Unused   Counter     `stat:"unused" help:"nothing"`
	Level    Gauge       `stat:"level" help:"now"`
	Size     Histogram   `stat:"size" help:"how large"`
	Text     TextReadout `stat:"text" help:"words"`
}

// TestSampler: sums of what has one name, what was added since, and Envoy's names of tags.
func TestSampler(t *testing.T) {
	st := NewStore()
	st.SetTags(&Tags{AllDefaults: true, Names: map[string]string{"my_tag": "my.tag"}})
	st.SetFixedLabels([]Label{{"my_tag", "v"}})
	var a, b sampled
	first := st.Scope("cluster").Tag("envoy_cluster_name", "web")
	first.Bind(&a)
	st.Scope("cluster").Tag("envoy_cluster_name", "web").Bind(&b)
	s := NewSampler(st)
	a.Requests.Add(3)
	b.Requests.Add(4)
	a.Level.Set(2)
	a.Text.Set("text")
	a.Size.Record(5)
	st.Flush()
	got := map[string]Sample{}
	for _, one := range s.Sample() {
		got[one.Name] = one
	}
	rq := got["cluster.web.rq"]
	if rq.Value != 7 || rq.Delta != 7 || rq.Family != "cluster.rq" || !slices.Equal(rq.Tags, []Label{{"envoy.cluster_name", "web"}, {"my.tag", "v"}}) {
		t.Errorf("counter: %+v", rq)
	}
	if l := got["cluster.web.level"]; l.Kind != GaugeKind || l.Level != 2 {
		t.Errorf("gauge: %+v", l)
	}
	if h := got["cluster.web.size"]; h.Total.Count != 1 || h.Interval.Count != 1 || len(h.Bounds) == 0 {
		t.Errorf("histogram: %+v", h)
	}
	if len(got) != 3 {
		t.Errorf("%d samples, want what was used and is a number", len(got))
	}
	b.Requests.Inc()
	first.Close() // what is left is less than the sum was
	st.Flush()
	for _, one := range s.Sample() {
		if one.Name == "cluster.web.rq" && (one.Value != 5 || one.Delta != 1) {
			t.Errorf("counter: %+v, want 1 that was added", one)
		}
	}
	b.Requests.Reset()
	b.Requests.Add(2)
	for _, one := range s.Sample() {
		if one.Delta != 2 {
			t.Errorf("after a reset: %+v", one)
		}
	}
}
