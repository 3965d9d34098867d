package jwtauthn_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/jwtauthn"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// about is what the dialogues are about, and remote keys are at the cluster $other.
var about = dialogue.Subject{Name: jwtauthn.Spec.Name, Type: jwtauthn.Spec.Type, RouteType: jwtauthn.Spec.RouteType}

func TestDialogues(t *testing.T) { dialogue.MechaAbout(t, about, "testdata/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, jwtauthn.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, jwtauthn.Spec) }

// TestEngineAllocs: requests that need no token cost nothing.
func TestEngineAllocs(t *testing.T) {
	filtertest.Allocs(t, jwtauthn.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `
providers: {one: {remote_jwks: {http_uri: {uri: "http://k", cluster: k, timeout: 1s}}}}
rules: [{match: {prefix: /closed}, requires: {provider_name: one}}]
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, jwtauthn.Spec, usual) }
