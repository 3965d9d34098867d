package grpcstats_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/grpcstats"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, grpcstats.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, grpcstats.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, grpcstats.Spec) }

func TestEngineAllocs(t *testing.T) {
	filtertest.Allocs(t, grpcstats.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{stats_for_all_methods: true, emit_filter_state: true}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, grpcstats.Spec, usual) }
