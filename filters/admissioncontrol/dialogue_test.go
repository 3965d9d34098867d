package admissioncontrol_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/admissioncontrol"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, admissioncontrol.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, admissioncontrol.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, admissioncontrol.Spec) }

// TestAllocs: counting costs no memory.
func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, admissioncontrol.Spec, `
success_criteria: {}
rps_threshold: {default_value: 1, runtime_key: x}
aggression: {default_value: 1.5, runtime_key: y}
`)
}

func BenchmarkAdmissionControl(b *testing.B) {
	filtertest.Bench(b, admissioncontrol.Spec, `{success_criteria: {}}`)
}
