package apikeyauth_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/apikeyauth"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, apikeyauth.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, apikeyauth.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, apikeyauth.Spec) }

func TestAllocs(t *testing.T) {
	filtertest.Allocs(t, apikeyauth.Spec, usual)
}

// usual is the configuration whose cost is looked at.
const usual = `{credentials: [{key: test, client: one}], key_sources: [{header: x-key}, {header: user-agent}], forwarding: {header: x-client}}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, apikeyauth.Spec, usual) }
