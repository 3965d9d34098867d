package headermutation_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/headermutation"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, headermutation.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, headermutation.Spec) }

func TestEngineAllocs(t *testing.T) {
	filtertest.Allocs(t, headermutation.Spec, `
mutations:
  request_mutations:
  - append: {header: {key: x-a, value: "1"}}
  response_mutations:
  - append: {header: {key: x-b, value: "2"}}
`)
}
