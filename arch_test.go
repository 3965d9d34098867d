package mecha_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mecha-mesh/mecha/"

// layer says what the packages under a folder may import of this repository, and why.
type layer struct {
	folder string // the longest matching folder decides
	may    []string
	why    string
}

var leaves = []string{"proxy/buffer", "proxy/header", "proxy/stats", "proxy/meta", "proxy/netio", "proxy/runtime", "proxy/why", "proxy/backoff"}

// layers is the import table of DESIGN section 3. A folder may always import what lies
// under itself.
var layers = []layer{
	{"proxy/buffer", nil, "a leaf: everything else stands on it"},
	{"proxy/header", nil, "a leaf: everything else stands on it"},
	{"proxy/stats", nil, "a leaf: whoever counts must be able to import it"},
	{"proxy/meta", nil, "plain data: transport, filter and access logs meet here without a cycle"},
	{"proxy/runtime", []string{"proxy/stats"}, "a leaf: whatever can be overridden at run time reads it"},
	{"proxy/backoff", nil, "a leaf: whoever tries again pauses alike"},
	{"proxy/applog", nil, "the log knows nothing of what it logs"},
	{"proxy/netio", []string{"proxy/buffer", "proxy/meta", "proxy/stats"}, "sockets carry bytes, they don't know what they mean"},
	{"proxy/why", []string{"proxy/meta"}, "what was decided, in plain words: anybody may note it"},
	{"proxy/wire", nil, "a wire format, without messages"},
	{"proxy/match", leaves, "matchers decide on headers and addresses alone"},
	{"proxy/accesslog", append([]string{"proxy/match"}, leaves...), "formats describe streams by plain data"},
	{"proxy/accesslog/grpclog", append([]string{"proxy/accesslog", "proxy/trace", "proxy/wire"}, leaves...), "entries are made of streams; who sends them is not known"},
	{"proxy/accesslog/otlplog", append([]string{"proxy/accesslog", "proxy/trace", "proxy/wire"}, leaves...), "entries are made of streams; who sends them is not known"},
	{"proxy/trace", append([]string{"proxy/match", "proxy/accesslog", "proxy/wire"}, leaves...), "spans are made of streams; who sends them is not known"},
	{"proxy/export", append([]string{"proxy/filter", "proxy/accesslog", "proxy/cluster"}, leaves...), "batches are sent to clusters as calls; what is in them is for others"},
	{"proxy/telemetry", append([]string{"proxy/filter", "proxy/codec", "proxy/accesslog", "proxy/cluster", "proxy/export", "proxy/trace", "proxy/wire"}, leaves...), "where telemetry goes to is the process's business"},
	{"proxy/mutate", append([]string{"proxy/match", "proxy/accesslog"}, leaves...), "header mutations are values that formats compute"},
	{"proxy/lua", nil, "runs programs; what they may ask the proxy is for whoever runs them"},
	{"proxy/wasm", append([]string{"proxy/filter", "proxy/attributes", "proxy/cel", "proxy/wire", "proxy/accesslog", "proxy/cluster", "proxy/codec"}, leaves...), "runs plugins for whoever has a stream, a connection or a log; which hook calls what is for the filters"},
	{"proxy/wasm/meter", nil, "rewrites modules: it does not run them"},
	{"proxy/wasm/wat", nil, "an assembler: it knows no plugin"},
	{"proxy/dnsproxy", []string{"proxy/stats"}, "answers DNS from names it is given; it knows neither clusters nor listeners"},
	{"proxy/codec", leaves, "wire formats know neither routes nor clusters"},
	{"proxy/secret", append([]string{"proxy/match"}, leaves...), "secrets are values; where they come from is for xds"},
	{"proxy/transport", append([]string{"proxy/secret", "proxy/match"}, leaves...), "a transport socket sees a connection, not what uses it"},
	{"proxy/cluster", append([]string{"proxy/match", "proxy/codec", "proxy/transport"}, leaves...), "upstream doesn't know who asks"},
	{"proxy/filter", append([]string{"proxy/match", "proxy/accesslog", "proxy/trace", "proxy/codec", "proxy/cluster", "proxy/transport", "proxy/secret"}, leaves...), "the contract is below the engine that implements it and the filters that use it"},
	{"proxy/attributes", append([]string{"proxy/filter"}, leaves...), "names for what the contract already tells"},
	{"proxy/cel", []string{"proxy/attributes"}, "expressions see attributes and nothing else"},
	{"proxy/filter/ratelimit", append([]string{"proxy/filter", "proxy/match", "proxy/accesslog"}, leaves...), "descriptors of a stream, for routes and for the filters that ask about them"},
	{"proxy/filter/fromproto", append([]string{"proxy/filter", "proxy/wire", "proxy/export", "proxy/telemetry", "proxy/trace", "proxy/attributes", "proxy/cel", "proxy/wasm", "proxy/match", "proxy/accesslog", "proxy/mutate", "proxy/route", "proxy/cluster", "proxy/codec", "proxy/l4", "proxy/l7", "proxy/secret", "proxy/transport"}, leaves...), "turns shared messages into plain values"},
	{"proxy/filter/filtertest", []string{"proxy", "filters", "xds"}, "a test kit may drive everything; production code must not import it"},
	{"proxy/route", append([]string{"proxy/filter", "proxy/trace", "proxy/match", "proxy/mutate", "proxy/accesslog", "proxy/cluster"}, leaves...), "routes decide, they don't send"},
	{"proxy/l4", append([]string{"proxy/filter", "proxy/match", "proxy/transport", "proxy/accesslog"}, leaves...), "connections don't know HTTP"},
	{"proxy/l7", append([]string{"proxy/filter", "proxy/trace", "proxy/match", "proxy/accesslog", "proxy/codec"}, leaves...), "the HTTP engine knows neither routes nor hosts"},
	{"proxy/config", append([]string{"proxy/filter", "proxy/accesslog"}, leaves...), "plain data"},
	{"proxy/server", append([]string{"proxy/filter", "proxy/cluster", "proxy/codec", "proxy/l4", "proxy/l7", "proxy/route", "proxy/config", "proxy/accesslog"}, leaves...), "builds the runtime from specs, wherever they come from"},
	{"proxy/admin", append([]string{"proxy/secret", "proxy/accesslog", "proxy/applog"}, leaves...), "shows what a Source tells it"},
	{"filters", append([]string{"proxy/lua", "proxy/wasm", "proxy/secret", "proxy/filter", "proxy/attributes", "proxy/cel", "proxy/match", "proxy/mutate", "proxy/accesslog", "proxy/codec", "proxy/cluster", "proxy/transport"}, leaves...), "a filter sees the contract and the leaves: never xds, server or another filter"},
	{"filters/hcm", append([]string{"proxy/filter", "proxy/trace", "proxy/l7", "proxy/match", "proxy/mutate"}, leaves...), "hands connections to the HTTP engine, and gives it its matchers and mutations as functions"},
	{"filters/router", append([]string{"proxy/filter", "proxy/trace", "proxy/route", "proxy/codec", "proxy/accesslog", "proxy/cluster", "proxy/transport"}, leaves...), "acts on routes, logs attempts"},
	{"xds/ads", nil, "a protocol client: it knows no listener"},
	{"xds/bootstrap", []string{"proxy/applog"}, "reads files into messages"},
	{"xds/source", []string{"xds/ads", "xds/bootstrap"}, "files for the same handlers as ADS"},
	{"xds/translate", []string{"xds/bootstrap", "proxy"}, "messages to specs"},
	{"xds/control", []string{"xds/ads", "xds/bootstrap", "xds/source"}, "the server shares nothing with the data path"},
	{"xds/xdstest", []string{"xds/ads", "xds/bootstrap"}, "a control plane for tests, independent of ours"},
	{"xds", []string{"proxy", "xds"}, "subscriptions to engine"},
	{"iptables", nil, "rules don't know the proxy"},
	{"cmd", []string{"proxy", "xds", "filters", "iptables", "examples"}, "the only place that wires everything"},
	{"bench", []string{"proxy", "xds"}, "drives binaries from outside"},
	{"e2e", []string{"xds"}, "drives whole programs from outside; only the control plane for tests is linked"},
	{"examples", nil, "programs without mesh code in them"},
	{"oracle", []string{"proxy", "xds", "filters", "cmd"}, "compares whole programs"},
}

// protobufHomes are the places that may see protobuf: "protobuf stops at the door".
func protobufHome(dir, file string) bool {
	return under(dir, "xds") || under(dir, "proxy/filter/fromproto") || under(dir, "cmd") || under(dir, "oracle") ||
		under(dir, "proxy/filter/filtertest") ||
		under(dir, "bench") && strings.HasPrefix(filepath.Base(file), "scale_") || // a control plane to measure with
		under(dir, "filters/grpcjsontranscoder/jsonpb") || // protobuf is what it is about
		under(dir, "filters") && (strings.HasPrefix(filepath.Base(file), "config") || strings.HasSuffix(file, "_test.go"))
}

func under(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

func TestImports(t *testing.T) {
	walk(t, func(dir, file string, f *ast.File) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		l := layerOf(dir)
		if l == nil {
			t.Errorf("%s: the folder %s is not in the import table of arch_test.go; DESIGN section 3 says which folders there are", file, dir)
			return
		}
		for _, imp := range f.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			own, ours := strings.CutPrefix(path, module)
			if !ours || under(own, l.folder) {
				continue
			}
			if strings.HasSuffix(own, "test") && under(own, "proxy/filter/filtertest") {
				t.Errorf("%s imports %s: a test kit", file, own)
			}
			if !slices.ContainsFunc(l.may, func(m string) bool { return under(own, m) }) {
				t.Errorf("%s imports %s, which %s may not: %s", file, own, l.folder, l.why)
			}
		}
	})
}

func layerOf(dir string) *layer {
	var best *layer
	for i := range layers {
		if under(dir, layers[i].folder) && (best == nil || len(layers[i].folder) > len(best.folder)) {
			best = &layers[i]
		}
	}
	return best
}

func TestProtobufStopsAtTheDoor(t *testing.T) {
	walk(t, func(dir, file string, f *ast.File) {
		if protobufHome(dir, file) || strings.HasSuffix(file, "_test.go") {
			return
		}
		for _, imp := range f.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if strings.HasPrefix(path, "google.golang.org/protobuf") || strings.HasPrefix(path, "github.com/envoyproxy/") || strings.HasPrefix(path, "github.com/cncf/xds") {
				t.Errorf("%s imports %s: only xds/, proxy/filter/fromproto and a filter's config.go see protobuf; everything else works on plain specs", file, path)
			}
		}
	})
}

// TestNothingRegistersItself: one list names everything, so that a reader can find it.
func TestNothingRegistersItself(t *testing.T) {
	walk(t, func(dir, file string, f *ast.File) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has func init(): put it where it is called", file)
			}
		}
	})
}

// The most lines of a file and of a function, tests and tables aside. Beyond 600 lines
// there is usually a second concept in a file, beyond 70 in a function.
const (
	maxFile     = 600
	maxFunction = 70
)

func TestSizes(t *testing.T) {
	fset := token.NewFileSet()
	walkSet(t, fset, func(dir, file string, f *ast.File) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		if n := fset.File(f.Pos()).LineCount(); n > maxFile {
			t.Errorf("%s has %d lines, more than %d", file, n, maxFile)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || isTable(fn) {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > maxFunction {
				t.Errorf("%s: %s has %d lines, more than %d", file, fn.Name.Name, n, maxFunction)
			}
		}
	})
}

// isTable recognises functions that are one switch over names or one literal: their
// length is that of the list.
func isTable(fn *ast.FuncDecl) bool {
	if fn.Body == nil || len(fn.Body.List) == 0 || len(fn.Body.List) > 2 {
		return false
	}
	switch s := fn.Body.List[0].(type) {
	case *ast.SwitchStmt:
		return true
	case *ast.ReturnStmt:
		return len(s.Results) == 1
	}
	return false
}

func TestPackageComments(t *testing.T) {
	documented := map[string]bool{}
	walk(t, func(dir, file string, f *ast.File) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		documented[dir] = documented[dir] || f.Doc != nil
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

func TestNames(t *testing.T) {
	walk(t, func(dir, file string, f *ast.File) {
		switch filepath.Base(dir) {
		case "util", "utils", "common", "types", "helpers", "misc":
			t.Errorf("%s: a package is named after what it has, not after what it lacks", dir)
		}
	})
}

// TestNoSleepInTests: a test that sleeps is slow on a quiet machine and wrong on a
// busy one. Wait for what happens, or use testing/synctest.
func TestNoSleepInTests(t *testing.T) {
	walk(t, func(dir, file string, f *ast.File) {
		if !strings.HasSuffix(file, "_test.go") || usesSynctest(f) {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s calls time.Sleep", file)
				}
			}
			return true
		})
	})
}

func usesSynctest(f *ast.File) bool {
	return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
}

func walk(t *testing.T, visit func(dir, file string, f *ast.File)) {
	t.Helper()
	walkSet(t, token.NewFileSet(), visit)
}

func walkSet(t *testing.T, fset *token.FileSet, visit func(dir, file string, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin" || isModule(path)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || filepath.Dir(path) == ".":
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		visit(filepath.ToSlash(filepath.Dir(path)), path, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isModule reports whether a folder is a module of its own, as examples for other runtimes
// are: it follows the rules of their SDKs.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// TestDeps: deps.txt lists the modules that each binary links, so that a change which
// adds one shows it. RATIONALE says why each is there.
func TestDeps(t *testing.T) {
	want, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, binary := range []string{"mecha", "mecha-control"} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./cmd/"+binary).Output()
		if err != nil {
			t.Fatal(err)
		}
		modules := strings.Fields(string(out))
		slices.Sort(modules)
		fmt.Fprintf(&got, "# cmd/%s\n%s\n\n", binary, strings.Join(slices.Compact(modules), "\n"))
	}
	if got.String() != string(want) {
		t.Errorf("deps.txt is not what the binaries link:\n%s", got.String())
	}
}
