package translate_test

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
)

var rewrite = flag.Bool("rewrite", false, "write the messages into testdata")

// verdict is one case of testdata/*.txt.
type verdict struct{ name, verdict, json, message string }

func (v *verdict) accepted() bool { return v.verdict == "accepted" }

// byEnvoy is whether Envoy accepts the case.
func (v *verdict) byEnvoy() bool { return v.verdict != "refused" }

func readVerdicts(t testing.TB, file string) (head string, all []*verdict) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "\n=== ")
	for _, p := range parts[1:] {
		lines := strings.Split(strings.TrimRight(p, "\n"), "\n")
		name, what, ok := strings.Cut(lines[0], ": ")
		if !ok || len(lines) < 2 {
			t.Fatalf("%s: not a case: %q", file, p)
		}
		all = append(all, &verdict{name, what, lines[1], strings.Join(lines[2:], "\n")})
	}
	return parts[0], all
}

// engine builds what it is given, down to the sockets.
func engine(t testing.TB) *xds.Manager {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	registry, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		t.Fatal(err)
	}
	files := accesslog.NewFiles(accesslog.FileOptions{}, nil)
	srv := server.New(server.Options{
		Stats: stats.NewStore(), Log: func(string) *slog.Logger { return log }, Env: filter.Env{Logs: files},
	})
	t.Cleanup(func() {
		srv.Close()
		if err := files.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return xds.NewManager(xds.Options{Engine: srv, Registry: registry, Log: log})
}

func TestClusterVerdicts(t *testing.T) {
	check(t, "testdata/clusters.txt", ads.ClusterType, func() proto.Message { return &clusterv3.Cluster{} })
}

func TestListenerVerdicts(t *testing.T) {
	check(t, "testdata/listeners.txt", ads.ListenerType, func() proto.Message { return &listenerv3.Listener{} })
}

// check: what is refused is refused with a message that says where.
func check(t *testing.T, file, typeURL string, newMessage func() proto.Message) {
	head, all := readVerdicts(t, file)
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			if v.name == "mptcp" && !netio.HasMultipath() {
				t.Skip("the kernel has no MPTCP")
			}
			m := newMessage()
			if err := protojson.Unmarshal([]byte(v.json), m); err != nil {
				t.Fatal(err)
			}
			raw, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			err = engine(t).Static(ads.Resource{Name: "x", Body: &anypb.Any{TypeUrl: typeURL, Value: raw}})
			switch {
			case v.accepted() && err != nil:
				t.Errorf("refused: %v", err)
			case v.accepted():
			case err == nil:
				t.Error("accepted")
			case *rewrite:
				v.message = err.Error()
			case err.Error() != v.message:
				t.Errorf("got  %v\nwant %s", err, v.message)
			}
		})
	}
	if !*rewrite {
		return
	}
	out := head
	for _, v := range all {
		out += "\n=== " + v.name + ": " + v.verdict + "\n" + v.json + "\n"
		if v.message != "" && !v.accepted() {
			out += v.message + "\n"
		}
	}
	if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
}
