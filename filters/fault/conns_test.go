package fault_test

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/filters/fault"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// TestWholeProxy plays the filter of connections; not on Envoy, which does not have it.
func TestWholeProxy(t *testing.T) { dialogue.Mecha(t, "testdata/whole/*.txt") }

func bytesOf(tb testing.TB, text string) []byte {
	tb.Helper()
	var st structpb.Struct
	if err := st.UnmarshalJSON([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	raw, err := proto.Marshal(&st)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func TestNetworkRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "stat_prefix: is required",
		`{"stat_prefix": "x", "delay": {"percentage": 1}}`:                        "delay.fixed_delay: must be more than 0",
		`{"stat_prefix": "x", "delay": {"fixed_delay": "1s", "percentage": 101}}`: "delay.percentage: 101 is not from 0 to 100",
		`{"stat_prefix": "x", "abort": {"percentage": -1}}`:                       "abort.percentage: -1 is not",
		`{"stat_prefix": "x", "abort": {"percent": 1}}`:                           "percent: there is no such field",
	} {
		if _, err := fault.Network.Parse(bytesOf(t, text), &filter.Parser{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	c, err := fault.Network.Parse(bytesOf(t, `{"stat_prefix": "x", "abort": {"percentage": 0.5}}`), &filter.Parser{})
	if err != nil || c.AbortPercent.Numerator != 5000 || c.DelayPercent.Match(math.MaxUint64) || c.DelayPercent.Match(0) {
		t.Errorf("%+v, %v", c, err)
	}
}

// FuzzParseNetwork: no bytes make the parser panic.
func FuzzParseNetwork(f *testing.F) {
	f.Add(bytesOf(f, `{"stat_prefix": "x", "delay": {"fixed_delay": "1s", "percentage": 1}, "abort": {"percentage": 2}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := fault.Network.Parse(raw, &filter.Parser{}); err == nil && c.StatPrefix == "" {
			t.Errorf("%+v", c)
		}
	})
}
