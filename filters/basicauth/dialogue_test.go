package basicauth_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/basicauth"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, basicauth.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, basicauth.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, basicauth.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, basicauth.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{users: {inline_string: "u:{SHA}C+7Hteo/D9vJXQ3UfzxbwnXaijM="}, authentication_header: user-agent, allow_missing: true, emit_dynamic_metadata: true}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, basicauth.Spec, usual) }
