package headertometadata_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/headertometadata"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, headertometadata.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, headertometadata.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, headertometadata.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, headertometadata.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `
stat_prefix: counted
request_rules:
- {header: user-agent, on_header_present: {key: agent, value: known}}
- {header: x-missing, on_header_present: {key: a}, on_header_missing: {key: a, value: "1", type: NUMBER}}
response_rules:
- {header: x-missing, on_header_present: {key: b}}
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, headertometadata.Spec, usual) }
