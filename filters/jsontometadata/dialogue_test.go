package jsontometadata_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/jsontometadata"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, jsontometadata.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, jsontometadata.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, jsontometadata.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, jsontometadata.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `
request_rules: {rules: [{selectors: [{key: a}], on_present: {key: a}}]}
response_rules: {rules: [{selectors: [{key: a}], on_present: {key: a}}]}
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, jsontometadata.Spec, usual) }
