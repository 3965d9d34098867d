package translate_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	_ "github.com/mecha-mesh/mecha/xds/control/linked" // the types that the corpus contains
	"github.com/mecha-mesh/mecha/xds/translate"
)

// TestCorpus translates what real control planes sent (MECHA_CORPUS is a folder of
// DiscoveryResponses as JSON). Nothing is refused but what this build lacks, by name.
func TestCorpus(t *testing.T) {
	root := os.Getenv("MECHA_CORPUS")
	if root == "" {
		t.Skip("MECHA_CORPUS names no folder")
	}
	files, err := filepath.Glob(filepath.Join(root, "*", "*", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", root, err)
	}
	for _, f := range files {
		kind, _, _ := strings.Cut(filepath.Base(f), ".")
		rel, _ := filepath.Rel(root, f)
		t.Run(rel, func(t *testing.T) {
			for _, raw := range resources(t, f) {
				name, err := translateAny(t, kind, raw)
				switch {
				case err == nil:
					t.Logf("accepted %s", name)
				case lacking(err):
					t.Logf("refused  %s: %v", name, err)
				default:
					t.Errorf("refused  %s: %v", name, err)
				}
			}
		})
	}
}

// lacking reports whether an error says that this build lacks something, as opposed to
// calling the resource wrong.
func lacking(err error) bool { return strings.Contains(err.Error(), "this build") }

func resources(t *testing.T, file string) []json.RawMessage {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var resp struct{ Resources []json.RawMessage }
	if err := json.Unmarshal(text, &resp); err != nil {
		t.Fatal(err)
	}
	return resp.Resources
}

func translateAny(t *testing.T, kind string, text json.RawMessage) (string, error) {
	t.Helper()
	var head struct {
		Type              string `json:"@type"`
		Name, ClusterName string
	}
	if err := json.Unmarshal(text, &head); err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "@type")
	plain, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(head.Type)
	if err != nil {
		t.Fatal(err)
	}
	msg := mt.New().Interface()
	if err := (protojson.UnmarshalOptions{Resolver: lenient{}}).Unmarshal(plain, msg); err != nil {
		return head.Name, err
	}
	raw, err := proto.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	p := parser(t)
	switch kind {
	case "cds":
		_, _, err = translate.Cluster(raw, nil, nil)
	case "eds":
		head.Name = head.ClusterName
		_, err = translate.Assignment(raw)
	case "lds":
		_, err = translate.Listener(raw, p)
	case "rds":
		_, err = fromproto.Routes(raw, p)
	default:
		t.Skipf("no translator for %s", kind)
	}
	return head.Name, err
}

func parser(t testing.TB) *filter.Parser {
	t.Helper()
	r, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		t.Fatal(err)
	}
	return &filter.Parser{Registry: r, Routes: fromproto.InlineRoutes}
}

type lenient struct{ *protoregistry.Types }

func (lenient) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByURL(url)
}
