package adaptiveconcurrency_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/adaptiveconcurrency"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, adaptiveconcurrency.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, adaptiveconcurrency.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, adaptiveconcurrency.Spec) }

// TestAllocs: measuring costs no memory, nor do updates of the limit.
func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, adaptiveconcurrency.Spec, `
gradient_controller_config:
  concurrency_limit_params: {concurrency_update_interval: 0.001s}
  min_rtt_calc_params: {interval: 1s}
`)
}

func BenchmarkAdaptiveConcurrency(b *testing.B) {
	filtertest.Bench(b, adaptiveconcurrency.Spec, `{gradient_controller_config: {concurrency_limit_params: {concurrency_update_interval: 0.1s}, min_rtt_calc_params: {interval: 60s}}}`)
}
