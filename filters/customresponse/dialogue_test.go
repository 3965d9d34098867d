package customresponse_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/customresponse"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, customresponse.Spec) }

// TestWhole: what needs the router.
func TestWhole(t *testing.T) { dialogue.Mecha(t, "testdata/whole/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, customresponse.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, customresponse.Spec) }

func TestAllocs(t *testing.T) { filtertest.Allocs(t, customresponse.Spec, usual) }

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, customresponse.Spec, usual) }

// usual is the configuration whose cost is looked at: a response that stays as it is.
const usual = `
custom_response_matcher:
  matcher_list:
    matchers:
    - predicate:
        single_predicate:
          input: {name: class, typed_config: {"@type": type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput}}
          value_match: {exact: 5xx}
      on_match:
        action:
          name: local
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy
            body: {inline_string: sorry}
`
