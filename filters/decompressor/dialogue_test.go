package decompressor_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/decompressor"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, decompressor.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, decompressor.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, decompressor.Spec) }

const gzip = `decompressor_library: {name: z, typed_config: {"@type": type.googleapis.com/envoy.extensions.compression.gzip.decompressor.v3.Gzip}}`

// TestEngineAllocs: what is not decompressed costs nothing.
func TestEngineAllocs(t *testing.T) { filtertest.Allocs(t, decompressor.Spec, gzip) }

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, decompressor.Spec, gzip) }
