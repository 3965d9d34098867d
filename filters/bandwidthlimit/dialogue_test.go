package bandwidthlimit_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/bandwidthlimit"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, bandwidthlimit.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, bandwidthlimit.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, bandwidthlimit.Spec) }

// TestAllocs: who stays below the limit pays no memory.
func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, bandwidthlimit.Spec, `{stat_prefix: x, enable_mode: REQUEST_AND_RESPONSE, limit_kbps: 1000000}`)
}

func BenchmarkBandwidthLimit(b *testing.B) {
	filtertest.Bench(b, bandwidthlimit.Spec, `{stat_prefix: x, enable_mode: REQUEST_AND_RESPONSE, limit_kbps: 1000000}`)
}
