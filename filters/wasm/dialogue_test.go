package wasm_test

import (
	"net"
	"testing"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mecha-mesh/mecha/filters/wasm"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// about is what the dialogues are about; their guests are in $files.
func about(t testing.TB) dialogue.Subject {
	return dialogue.Subject{Name: wasm.Spec.Name, Type: wasm.Spec.Type, Files: guests(t), Service: health(t).String()}
}

// health is a gRPC service that says that all is well.
func health(t testing.TB) net.Addr {
	return dialogue.ServeGRPC(t, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, grpchealth.NewServer()) })
}

func TestDialogues(t *testing.T) { dialogue.MechaAbout(t, about(t), "testdata/*.txt") }

// TestWholeProxy plays what takes more than the HTTP filter: connections.
func TestWholeProxy(t *testing.T) { dialogue.MechaAbout(t, about(t), "testdata/whole/*.txt") }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, wasm.Spec) }

func FuzzHooks(f *testing.F) { filtertest.FuzzHooksAbout(f, wasm.Spec, about(f)) }

// TestEngineAllocs: the host allocates nothing for a request of which a guest changes a field.
func TestEngineAllocs(t *testing.T) { filtertest.Allocs(t, wasm.Spec, usual(t)) }

// usual is the configuration whose cost is looked at.
func usual(tb testing.TB) string {
	return `{config: {name: adder, vm_config: {code: {local: {filename: ` + guests(tb) + `/add.wasm}}}}}`
}

func BenchmarkEngine(b *testing.B) { filtertest.Bench(b, wasm.Spec, usual(b)) }
