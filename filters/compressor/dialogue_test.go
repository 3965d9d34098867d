package compressor_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/compressor"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, compressor.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, compressor.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, compressor.Spec) }

const gzip = `compressor_library: {name: z, typed_config: {"@type": type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip}}`

// TestEngineAllocs: what is not compressed costs nothing.
func TestEngineAllocs(t *testing.T) { filtertest.Allocs(t, compressor.Spec, gzip) }

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, compressor.Spec, gzip) }
