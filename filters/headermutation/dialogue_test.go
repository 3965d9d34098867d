package headermutation_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/headermutation"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, headermutation.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, headermutation.Spec) }

func TestEngineAllocs(t *testing.T) {
	filtertest.Allocs(t, headermutation.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `
mutations:
  request_mutations:
  - append: {header: {key: x-a, value: "1"}}
  response_mutations:
  - append: {header: {key: x-b, value: "2"}}
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, headermutation.Spec, usual) }
