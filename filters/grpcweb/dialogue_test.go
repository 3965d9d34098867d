package grpcweb_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/grpcweb"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, grpcweb.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, grpcweb.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, grpcweb.Spec) }

func TestEngineAllocs(t *testing.T) { filtertest.Allocs(t, grpcweb.Spec, usual) }

// usual is the configuration whose cost is looked at.
const usual = `{}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, grpcweb.Spec, usual) }
