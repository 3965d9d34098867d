package fault_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/fault"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, fault.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, fault.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, fault.Spec) }

// TestAllocs: who no fault is meant for pays nothing.
func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, fault.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `
headers: [{name: user-agent, present_match: true}]
delay: {fixed_delay: 1s, percentage: {numerator: 0}}
abort: {header_abort: {}, percentage: {numerator: 100}}
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, fault.Spec, usual) }
