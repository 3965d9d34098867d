package buffering_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/buffering"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, buffering.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, buffering.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, buffering.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, buffering.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{max_request_bytes: 1000}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, buffering.Spec, usual) }
