package oauth2_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/oauth2"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// about is what the dialogues are about; the token endpoint is the cluster $other.
var about = dialogue.Subject{Name: oauth2.Spec.Name, Type: oauth2.Spec.Type, RouteType: oauth2.Spec.RouteType}

func TestDialogues(t *testing.T) { dialogue.MechaAbout(t, about, "testdata/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, oauth2.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, oauth2.Spec) }

// TestEngineAllocs: requests that are none of the filter's business cost nothing.
func TestEngineAllocs(t *testing.T) { filtertest.Allocs(t, oauth2.Spec, usual) }

// usual is the configuration whose cost is looked at.
const usual = `
config:
  token_endpoint: {cluster: other, uri: "http://idp/token", timeout: 1s}
  authorization_endpoint: https://idp/auth
  redirect_uri: "%REQ(:scheme)%://%REQ(:authority)%/callback"
  redirect_path_matcher: {path: {exact: /callback}}
  signout_path: {path: {exact: /signout}}
  pass_through_matcher: [{name: user-agent, string_match: {exact: test}}]
  credentials: {client_id: id, token_secret: {name: token-secret}, hmac_secret: {name: hmac-secret}}
`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, oauth2.Spec, usual) }
