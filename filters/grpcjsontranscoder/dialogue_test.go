package grpcjsontranscoder_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/grpcjsontranscoder"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, grpcjsontranscoder.Spec) }

// about is the filter, for dialogues with other filters in the chain.
var about = dialogue.Subject{Name: grpcjsontranscoder.Spec.Name, Type: grpcjsontranscoder.Spec.Type, RouteType: grpcjsontranscoder.Spec.RouteType}

func TestWholeProxy(t *testing.T) { dialogue.MechaAbout(t, about, "testdata/whole/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, grpcjsontranscoder.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooks(f, grpcjsontranscoder.Spec) }

// TestEngineAllocs: a request that calls no method costs nothing.
func TestEngineAllocs(t *testing.T) { filtertest.Allocs(t, grpcjsontranscoder.Spec, usual) }

// usual is the configuration whose cost is looked at.
const usual = `{proto_descriptor: testdata/bookstore.pb, services: [bookstore.Bookstore]}`

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, grpcjsontranscoder.Spec, usual) }
