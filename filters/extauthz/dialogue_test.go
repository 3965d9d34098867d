package extauthz_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/extauthz"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// about is what the dialogues are about: the service is at the cluster $other.
var about = dialogue.Subject{Name: extauthz.Spec.Name, Type: extauthz.Spec.Type, RouteType: extauthz.Spec.RouteType}

func TestDialogues(t *testing.T) { dialogue.MechaAbout(t, about, "testdata/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, extauthz.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, extauthz.Spec) }

// TestEngineAllocs: requests about which nobody is asked cost nothing.
func TestEngineAllocs(t *testing.T) {
	filtertest.Allocs(t, extauthz.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `
http_service: {server_uri: {uri: "http://authz", cluster: authz, timeout: 1s}}
filter_enabled: {default_value: {numerator: 0}}
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, extauthz.Spec, usual) }
