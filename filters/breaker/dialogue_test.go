package breaker_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/breaker"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// TestDialogues: not on Envoy, which does not have the filter.
func TestDialogues(t *testing.T) {
	about := dialogue.Subject{Name: breaker.Spec.Name, Type: breaker.Spec.Type, RouteType: breaker.Spec.RouteType}
	t.Run("memory", func(t *testing.T) {
		dialogue.InMemory(t, about, []filter.Descriptor{breaker.Spec}, "testdata/*.txt")
	})
	t.Run("sockets", func(t *testing.T) { dialogue.MechaAbout(t, about, "testdata/*.txt") })
}

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, breaker.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, breaker.Spec) }

// TestAllocs: a closed breaker costs no memory.
func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, breaker.Spec, `{failure_percentage: 50, sampling_window: 10s}`)
}

func BenchmarkBreaker(b *testing.B) {
	filtertest.Bench(b, breaker.Spec, `{failure_percentage: 50}`)
}
