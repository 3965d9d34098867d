package csrf_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/csrf"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, csrf.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, csrf.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, csrf.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, csrf.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{filter_enabled: {default_value: {numerator: 100}}}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, csrf.Spec, usual) }
