package grpchttp1reversebridge_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/grpchttp1reversebridge"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, grpchttp1reversebridge.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, grpchttp1reversebridge.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, grpchttp1reversebridge.Spec) }

func TestEngineAllocs(t *testing.T) {
	filtertest.Allocs(t, grpchttp1reversebridge.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{content_type: application/x-protobuf, withhold_grpc_frames: true}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, grpchttp1reversebridge.Spec, usual) }
