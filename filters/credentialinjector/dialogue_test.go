package credentialinjector_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/credentialinjector"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, credentialinjector.Spec) }

// TestWhole: what needs the router.
func TestWhole(t *testing.T) { dialogue.Mecha(t, "testdata/whole/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, credentialinjector.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, credentialinjector.Spec) }

func TestAllocs(t *testing.T) { filtertest.Allocs(t, credentialinjector.Spec, usual) }

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, credentialinjector.Spec, usual) }

// usual is the configuration whose cost is looked at.
const usual = `
overwrite: true
credential:
  name: generic
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
    credential: {name: token-secret}
    header_value_prefix: "Bearer "
`
