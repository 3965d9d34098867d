package healthcheck_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/healthcheck"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, healthcheck.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, healthcheck.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, healthcheck.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, healthcheck.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{pass_through_mode: false, headers: [{name: ":path", string_match: {exact: /health}}]}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, healthcheck.Spec, usual) }
