package cors_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/cors"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, cors.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, cors.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, cors.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, cors.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, cors.Spec, usual) }
