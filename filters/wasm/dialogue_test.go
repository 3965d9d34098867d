package wasm_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/wasm"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// about is what the dialogues are about; their guests are in $files.
func about(t testing.TB) dialogue.Subject {
	return dialogue.Subject{Name: wasm.Spec.Name, Type: wasm.Spec.Type, Files: guests(t)}
}

func TestDialogues(t *testing.T) { dialogue.MechaAbout(t, about(t), "testdata/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, wasm.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooksAbout(f, wasm.Spec, about(f)) }

// TestEngineAllocs: the host allocates nothing for a request of which a guest changes a field.
func TestEngineAllocs(t *testing.T) { filtertest.Allocs(t, wasm.Spec, usual(t)) }

// usual is the configuration whose cost is looked at.
func usual(tb testing.TB) string {
	return `{config: {name: adder, vm_config: {code: {local: {filename: ` + guests(tb) + `/add.wasm}}}}}`
}

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, wasm.Spec, usual(b)) }
