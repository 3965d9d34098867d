package setmetadata_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/setmetadata"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, setmetadata.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, setmetadata.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, setmetadata.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, setmetadata.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{metadata: [{metadata_namespace: a, value: {x: 1, y: {z: b}}}]}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, setmetadata.Spec, usual) }
