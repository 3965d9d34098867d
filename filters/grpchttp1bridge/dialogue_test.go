package grpchttp1bridge_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/grpchttp1bridge"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, grpchttp1bridge.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, grpchttp1bridge.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, grpchttp1bridge.Spec) }

func TestEngineAllocs(t *testing.T) { filtertest.Allocs(t, grpchttp1bridge.Spec, usual) }

// usual is the configuration whose cost is looked at.
const usual = `{}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, grpchttp1bridge.Spec, usual) }
