package idempotency_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/idempotency"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// TestDialogues: not on Envoy, which does not have the filter.
func TestDialogues(t *testing.T) {
	about := dialogue.Subject{Name: idempotency.Spec.Name, Type: idempotency.Spec.Type, RouteType: idempotency.Spec.RouteType}
	t.Run("memory", func(t *testing.T) {
		dialogue.InMemory(t, about, []filter.Descriptor{idempotency.Spec}, "testdata/*.txt")
	})
	t.Run("sockets", func(t *testing.T) { dialogue.MechaAbout(t, about, "testdata/*.txt") })
}

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, idempotency.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, idempotency.Spec) }

// TestAllocs: a request that needs no key costs no memory.
func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, idempotency.Spec, `{store: {memory: {}}}`)
}

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, idempotency.Spec, `{store: {memory: {}}}`) }
