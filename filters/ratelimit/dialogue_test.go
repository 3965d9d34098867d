package ratelimit_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// about is what the dialogues are about, with a service of this test at $service.
func about(t testing.TB) dialogue.Subject {
	return dialogue.Subject{Name: ratelimit.Spec.Name, Type: ratelimit.Spec.Type, RouteType: ratelimit.Spec.RouteType, Service: startService(t)}
}

func TestDialogues(t *testing.T) { dialogue.MechaAbout(t, about(t), "testdata/*.txt") }

// TestWholeProxy plays the filter of connections.
func TestWholeProxy(t *testing.T) {
	dialogue.MechaAbout(t, dialogue.Subject{Service: startService(t)}, "testdata/whole/*.txt")
}

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, ratelimit.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, ratelimit.Spec) }

// TestEngineAllocs: requests about which nobody is asked cost nothing.
func TestEngineAllocs(t *testing.T) {
	filtertest.Allocs(t, ratelimit.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `
domain: d
rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: limits}}, transport_api_version: V3}
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, ratelimit.Spec, usual) }
