package setfilterstate_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/setfilterstate"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestDialogues(t *testing.T) { dialogue.Mecha(t, "testdata/*.txt") }

func BenchmarkEngine(b *testing.B) {
	filtertest.Bench(b, setfilterstate.HTTP, `{on_request_headers: [{object_key: a, factory_key: envoy.string, format_string: {text_format_source: {inline_string: x}}}]}`)
}
