package admissioncontrol

import (
	"math"
	"strings"
	"testing"
	"time"

	admissionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/admission_control/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

func parseJSON(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return parse(message.Raw(t, &admissionv3.AdmissionControl{}, text), &filter.Parser{})
}

func filterOf(t *testing.T, text string) *Filter {
	t.Helper()
	c, err := parseJSON(t, text)
	if err != nil {
		t.Fatal(err)
	}
	st := stats.NewStore()
	mk, err := newFactory(c, filter.Env{Stats: st, Parent: st.Scope("http")})
	if err != nil {
		t.Fatal(err)
	}
	return mk().(*Filter)
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "evaluation_criteria: is required",
		`{"successCriteria": {}, "srThreshold": {"runtimeKey": "x", "defaultValue": {"value": 0.5}}}`:           "sr_threshold.default_value",
		`{"successCriteria": {}, "maxRejectionProbability": {"runtimeKey": "x", "defaultValue": {"value":-1}}}`: "max_rejection_probability.default_value",
		`{"successCriteria": {}, "samplingWindow": "-1s"}`:                                                      "sampling_window",
		`{"successCriteria": {"httpCriteria": {}}}`:                                                             "success_criteria.http_criteria.http_success_status",
		`{"successCriteria": {"httpCriteria": {"httpSuccessStatus": [{"start": 99, "end": 200}]}}}`:             "success_criteria.http_criteria.http_success_status[0]",
		`{"successCriteria": {"httpCriteria": {"httpSuccessStatus": [{"start": 100, "end": 601}]}}}`:            "success_criteria.http_criteria.http_success_status[0]",
		`{"successCriteria": {"grpcCriteria": {"grpcSuccessStatus": [1, 17]}}}`:                                 "success_criteria.grpc_criteria.grpc_success_status[1]",
	} {
		if _, err := parseJSON(t, text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestProbability: the formula of the proto, and its bounds.
func TestProbability(t *testing.T) {
	const criteria = `"successCriteria": {}`
	for text, cases := range map[string][][3]float64{ // total, good, probability
		`{` + criteria + `}`: {{0, 0, 0}, {100, 100, 0}, {100, 95, 0}, {99, 0, 0.8}, {99, 57, (99 - 57/0.95) / 100}},
		`{` + criteria + `, "aggression": {"runtimeKey": "x", "defaultValue": 2}}`:                          {{99, 57, math.Sqrt((99 - 57/0.95) / 100)}, {100, 100, 0}},
		`{` + criteria + `, "aggression": {"runtimeKey": "x", "defaultValue": 0.1}}`:                        {{99, 57, (99 - 57/0.95) / 100}},
		`{` + criteria + `, "maxRejectionProbability": {"runtimeKey": "x", "defaultValue": {"value": 10}}}`: {{99, 0, 0.1}},
		`{` + criteria + `, "srThreshold": {"runtimeKey": "x", "defaultValue": {"value": 50}}}`:             {{99, 50, 0}, {99, 40, 0.19}},
	} {
		f := filterOf(t, text)
		for _, c := range cases {
			if got := f.probability(c[0], c[1]); math.Abs(got-c[2]) > 1e-9 {
				t.Errorf("%s: %v of %v: %v, want %v", text, c[1], c[0], got, c[2])
			}
		}
	}
}

// TestBusy: the average of requests a second decides, at least over a second.
func TestBusy(t *testing.T) {
	f := filterOf(t, `{"successCriteria": {}, "rpsThreshold": {"runtimeKey": "x", "defaultValue": 10}}`)
	for _, c := range []struct {
		total uint64
		age   time.Duration
		want  bool
	}{{9, 0, false}, {10, 0, true}, {19, 1999 * time.Millisecond, true}, {19, 2 * time.Second, false}, {20, 2 * time.Second, true}} {
		if got := f.busy(c.total, c.age); got != c.want {
			t.Errorf("%d in %v: %v", c.total, c.age, got)
		}
	}
}
