package orca

import (
	"encoding/base64"
	"fmt"
	"testing"

	orcav3 "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/protobuf/proto"
)

// one is a single header field.
type one struct{ name, value string }

func (o one) Get(name string) string {
	if name == o.name {
		return o.value
	}
	return ""
}

func serialised(r *orcav3.OrcaLoadReport) string {
	raw, err := proto.Marshal(r)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func TestFormats(t *testing.T) {
	full := serialised(&orcav3.OrcaLoadReport{
		CpuUtilization: 0.5, MemUtilization: 0.25, RpsFractional: 10, Eps: 2, ApplicationUtilization: 0.75, Rps: 9,
		NamedMetrics: map[string]float64{"queue": 7},
	})
	const want = "{0.5 0.25 0.75 10 2 [{named_metrics.queue 7}]}"
	for _, tc := range []struct{ header, value, want string }{
		{headerBinary, full, want},
		{headerBinary, serialised(&orcav3.OrcaLoadReport{RpsFractional: 1}), "{0 0 0 1 0 []}"},
		{header, "BIN " + full, want},
		{header, "TEXT cpu_utilization=0.5, mem_utilization=0.25,application_utilization=0.75,rps_fractional=10,eps=2,named_metrics.queue=7", want},
		{header, "cpu_utilization:0.5,mem_utilization:0.25,application_utilization:0.75,rps_fractional:10,eps:2,named_metrics.queue:7", want},
		{header, `JSON {"cpu_utilization": 0.5, "mem_utilization": 0.25, "applicationUtilization": 0.75, "rps_fractional": 10, "rps": "9", "eps": 2, "named_metrics": {"queue": 7}}`, want},
		{headerJSON, `{"cpu_utilization": 0.5, "mem_utilization": 0.25, "application_utilization": 0.75, "rpsFractional": 10, "eps": 2, "namedMetrics": {"queue": 7}}`, want},
		{"other", "cpu_utilization=1", ""},
		{header, "", ""},
		{header, "cpu_utilization", ""},
		{header, "cpu_utilization=", ""},
		{header, "cpu_utilization=NaN", ""},
		{header, "cpu_utilization=inf", ""},
		{header, "cpu_utilization=1,cpu_utilization=2", ""},
		{header, "unknown=1", ""},
		{header, "named_metrics.=1", ""},
		{headerBinary, "!", ""},
		{headerBinary, base64.StdEncoding.EncodeToString([]byte{9, 1}), ""},
		{headerJSON, "[]", ""},
		{headerJSON, `{"eps": "2"}`, ""},
	} {
		r, ok := FromFields(one{tc.header, tc.value})
		if got := fmt.Sprint(r); ok != (tc.want != "") || ok && got != tc.want {
			t.Errorf("%s: %s: %v %s, want %s", tc.header, tc.value, ok, got, tc.want)
		}
	}
}

func TestUtilization(t *testing.T) {
	r := Report{CPU: 0.1, Memory: 0.2, Application: 0.3, Named: []Metric{{"named_metrics.a", 0.4}, {"named_metrics.b", 0.9}, {"utilization.d", 0.5}}}
	for _, tc := range []struct {
		names []string
		want  float64
	}{
		{nil, 0.3},
		{[]string{"named_metrics.a"}, 0.4},
		{[]string{"named_metrics.a", "utilization.d"}, 0.5},
		{[]string{"named_metrics.*"}, 0.9},
		{[]string{"mem_utilization"}, 0.2},
		{[]string{"named_metrics.none"}, 0.3},
	} {
		if got := r.Utilization(tc.names); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.names, got, tc.want)
		}
	}
	if got := (&Report{CPU: 0.1}).Utilization(nil); got != 0.1 {
		t.Errorf("with nothing else the CPU counts, not %v", got)
	}
}

func TestTextAllocatesNothing(t *testing.T) {
	var get Fields = one{header, "TEXT cpu_utilization=0.5,rps_fractional=10"}
	if n := testing.AllocsPerRun(100, func() { FromFields(get) }); n != 0 {
		t.Errorf("a report in text allocates %v times", n)
	}
}

func FuzzFromFields(f *testing.F) {
	f.Add(headerBinary, serialised(&orcav3.OrcaLoadReport{CpuUtilization: 1, Utilization: map[string]float64{"x": 1}}))
	f.Add(header, "TEXT cpu_utilization=0.5")
	f.Add(headerJSON, `{"eps":1}`)
	f.Fuzz(func(t *testing.T, name, value string) {
		r, ok := FromFields(one{name, value})
		if u := r.Utilization([]string{"utilization.*"}); ok && u != u {
			t.Errorf("the utilization is %v", u)
		}
	})
}
