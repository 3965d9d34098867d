package extproc_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/extproc"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// about is what the dialogues are about, with a service of this test at $service.
func about(t testing.TB) dialogue.Subject {
	return dialogue.Subject{Name: extproc.Spec.Name, Type: extproc.Spec.Type, RouteType: extproc.Spec.RouteType, Service: startService(t)}
}

func TestDialogues(t *testing.T) { dialogue.MechaAbout(t, about(t), "testdata/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, extproc.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, extproc.Spec) }

// TestEngineAllocs: requests of which the service sees nothing cost nothing.
func TestEngineAllocs(t *testing.T) {
	filtertest.Allocs(t, extproc.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `
grpc_service: {envoy_grpc: {cluster_name: processor}}
processing_mode: {request_header_mode: SKIP, response_header_mode: SKIP}
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, extproc.Spec, usual) }
