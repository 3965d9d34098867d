package stats

import "testing"

func TestGRPCStatus(t *testing.T) {
	sc := NewStore().Scope("calls")
	var counted struct{ GRPCStatus }
	sc.Bind(&counted)
	for _, status := range []string{"0", "0", "14", "16", "17", "256", "x", "", "-1"} {
		counted.Count(sc, status)
	}
	want := map[string]uint64{
		"calls.success": 2, "calls.failure": 7, "calls.total": 9, "calls.0": 2, "calls.14": 1, "calls.16": 1,
	}
	sc.each(nil, func(m Metric) {
		if m.Counter.Value() != want[m.Name] {
			t.Errorf("%s is %d, want %d", m.Name, m.Counter.Value(), want[m.Name])
		}
		delete(want, m.Name)
	})
	if len(want) > 0 {
		t.Errorf("not shown: %v", want)
	}
	counted.Count(nil, "1")
	if n := testing.AllocsPerRun(100, func() { counted.Count(sc, "14") }); n > 0 {
		t.Errorf("counting allocates %v times", n)
	}
}
