package lua_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/lua"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// about is what the dialogues are about; others are asked at $other.
var about = dialogue.Subject{Name: lua.Spec.Name, Type: lua.Spec.Type, RouteType: lua.Spec.RouteType}

func TestDialogues(t *testing.T) { dialogue.MechaAbout(t, about, "testdata/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, lua.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, lua.Spec) }

// TestAllocs: a direction without a function costs nothing, and a function that adds a
// header nothing but its own instructions.
func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, lua.Spec, usual)
	filtertest.Allocs(t, lua.Spec, `{default_source_code: {inline_string: "function envoy_on_request(h) h:headers():add('x-a', 'b') end"}}`)
}

// usual is the configuration whose cost is looked at.
const usual = `{default_source_code: {inline_string: "function envoy_on_other(h) end"}}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, lua.Spec, usual) }
