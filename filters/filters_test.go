package filters_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of statistics into the READMEs")

// exempt says which filters lack something, and why that is right.
var exempt = map[string]map[string]string{
	"originaldst":   {"fuzz": "its configuration has no fields, and it reads no bytes", "dialogue": "it needs redirected connections: see proxy/l4 and e2e"},
	"tlsinspector":  {"dialogue": "dialogues begin after the listener filters; its tests compare with Envoy's"},
	"originalsrc":   {"dialogue": "nobody in a dialogue sees where a connection to upstream comes from: see proxy/cluster"},
	"dnsfilter":     {"dialogue": "dialogues are of connections; queries_test.go plays its cases on Envoy, too"},
	"udpproxy":      {"dialogue": "dialogues are of connections; sessions_test.go plays its cases on Envoy, too"},
	"httpinspector": {"dialogue": "dialogues begin after the listener filters; its tests compare with Envoy's"},
}

// costsElsewhere are the filters without a benchmark of their own, and where they are
// measured.
var costsElsewhere = map[string]string{
	"hcm":                 "every benchmark of an HTTP filter goes through it",
	"router":              "rows h1 and h2 of bench",
	"tcpproxy":            "rows tcp of bench",
	"dynamicforwardproxy": "it resolves names; proxy/cluster measures what comes after",
	"connectionlimit":     "it works for each connection, not for each request: rows new of bench",
	"directresponse":      "as connectionlimit",
	"echo":                "as connectionlimit",
	"snicluster":          "as connectionlimit",
	"redisproxy":          "redis-benchmark through mecha and Envoy: see RATIONALE.md",
	"dnsfilter":           "dialogues and benchmarks are of connections; see sessions of udpproxy",
	"originaldst":         "it works for each connection",
	"originalsrc":         "it works for each connection",
	"proxyprotocol":       "it works for each connection",
	"httpinspector":       "it works for each connection",
}

// countsIn is where the statistics of a filter are declared, if not in its own folder.
var countsIn = map[string]string{"hcm": "../proxy/l7", "wasm": "../proxy/wasm"}

// sections of every README, in this order.
var sections = []string{"Name", "Description", "Configuration", "Per route", "Statistics", "Examples"}

// TestNamesAreUnique: what configuration names, it names without doubt.
func TestNamesAreUnique(t *testing.T) {
	r, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Names()) != len(filters.All()) {
		t.Errorf("%d names, but %d filters in filters.go", len(r.Names()), len(filters.All()))
	}
}

// TestEveryFolderIsListed: a filter that is not in the list does not exist.
func TestEveryFolderIsListed(t *testing.T) {
	dirs, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	listed := folders(t)
	for _, d := range dirs {
		if d.IsDir() && d.Name() != "testdata" && !slices.Contains(listed, d.Name()) {
			t.Errorf("filters/%s is not in the list of filters.go", d.Name())
		}
	}
}

// TestEveryFilter: what must hold for each filter of the list.
func TestEveryFilter(t *testing.T) {
	for _, name := range folders(t) {
		t.Run(name, func(t *testing.T) {
			files := parse(t, name)
			hasComment(t, name, files)
			hasReadme(t, name)
			hasDialogue(t, name)
			hasFuzzTarget(t, name, files)
			hasBenchmark(t, name, files)
		})
	}
}

// folders are the packages whose Spec is in the list, in its order.
func folders(t *testing.T) (names []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "filters.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Spec" {
			names = append(names, s.X.(*ast.Ident).Name)
		}
		return true
	})
	return names
}

// parse reads all Go files of a folder, by name.
func parse(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(names) == 0 {
		t.Fatalf("no Go file in %s: %v", dir, err)
	}
	files := map[string]*ast.File{}
	for _, n := range names {
		f, err := parser.ParseFile(token.NewFileSet(), n, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[n] = f
	}
	return files
}

func hasComment(t *testing.T, name string, files map[string]*ast.File) {
	for n, f := range files {
		if f.Doc != nil && strings.HasPrefix(f.Doc.Text(), "Package "+name+" ") && !strings.HasSuffix(n, "_test.go") {
			return
		}
	}
	t.Errorf("no file of filters/%s begins with a comment \"Package %s ...\"", name, name)
}

func hasDialogue(t *testing.T, name string) {
	if exempt[name]["dialogue"] != "" {
		return
	}
	files, _ := filepath.Glob(name + "/testdata/*.txt") // the pattern is right
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains("\n"+string(text), "\n=== ") {
			return
		}
	}
	t.Errorf("filters/%s/testdata has no dialogue (see proxy/filter/filtertest/dialogue)", name)
}

func hasFuzzTarget(t *testing.T, name string, files map[string]*ast.File) {
	if exempt[name]["fuzz"] == "" && !tests(files, "Fuzz") {
		t.Errorf("filters/%s has no fuzz target (see filtertest.FuzzParse)", name)
	}
}

func hasBenchmark(t *testing.T, name string, files map[string]*ast.File) {
	switch has := tests(files, "Benchmark"); {
	case !has && costsElsewhere[name] == "":
		t.Errorf("filters/%s has no benchmark (see filtertest.Bench)", name)
	case has && costsElsewhere[name] != "":
		t.Errorf("filters/%s has a benchmark: costsElsewhere need not excuse it", name)
	}
}

// tests reports whether the tests of a folder have a function whose name begins so.
func tests(files map[string]*ast.File, prefix string) bool {
	for n, f := range files {
		if !strings.HasSuffix(n, "_test.go") {
			continue
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, prefix) {
				return true
			}
		}
	}
	return false
}

var headings = regexp.MustCompile(`(?m)^## (.+)$`)

func hasReadme(t *testing.T, name string) {
	file := filepath.Join(name, "README.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return
	}
	var got []string
	for _, m := range headings.FindAllStringSubmatch(string(text), -1) {
		got = append(got, m[1])
	}
	if !slices.Equal(got, sections) {
		t.Errorf("%s has the sections %q, want %q", file, got, sections)
		return
	}
	dir := name
	if d := countsIn[name]; d != "" {
		dir = d
	}
	checkTable(t, file, string(text), counts(parse(t, dir)))
}

// row is one line of a table of statistics.
var row = regexp.MustCompile("(?m)^\\| `.*\\n")

// checkTable compares the table of the section Statistics with the code.
func checkTable(t *testing.T, file, text string, want []string) {
	from := strings.Index(text, "## Statistics")
	to := from + strings.Index(text[from:], "## Examples")
	section := text[from:to]
	got := strings.Join(row.FindAllString(section, -1), "")
	if got == strings.Join(want, "") {
		return
	}
	if !*rewrite {
		t.Errorf("%s: the table of statistics is not that of the code (-rewrite makes it so); got\n%swant\n%s", file, got, strings.Join(want, ""))
		return
	}
	first := row.FindStringIndex(section)
	if first == nil {
		t.Errorf("%s: there is no table to rewrite in the section Statistics", file)
		return
	}
	section = section[:first[0]] + strings.Join(want, "") + row.ReplaceAllString(section[first[0]:], "")
	if err := os.WriteFile(file, []byte(text[:from]+section+text[to:]), fs.FileMode(0o644)); err != nil {
		t.Error(err)
	}
}

// counts are the rows for the fields with a stat tag, in the order of the files.
func counts(files map[string]*ast.File) (rows []string) {
	for _, n := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(n, "_test.go") {
			continue
		}
		ast.Inspect(files[n], func(n ast.Node) bool {
			f, ok := n.(*ast.Field)
			if !ok || f.Tag == nil {
				return true
			}
			raw, err := strconv.Unquote(f.Tag.Value)
			if err != nil {
				return true
			}
			tag := reflect.StructTag(raw)
			if name, ok := tag.Lookup("stat"); ok {
				rows = append(rows, fmt.Sprintf("| `%s` | %s |\n", name, tag.Get("help")))
			}
			return true
		})
	}
	return rows
}

// TestDifferencesAreListed: what differs from Envoy on purpose is told to users.
func TestDifferencesAreListed(t *testing.T) {
	doc, err := os.ReadFile("../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*/testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := ""
		for line := range strings.Lines(string(text)) {
			if n, ok := strings.CutPrefix(line, "=== "); ok {
				name = strings.TrimSpace(n)
			}
			if strings.HasPrefix(line, "differs from Envoy: ") {
				names = append(names, name)
			}
		}
	}
	code, err := os.ReadFile("../proxy/codec/h1/deviations_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t"([a-z0-9.-]+)":`).FindAllStringSubmatch(string(code), -1) {
		if !slices.Contains(elsewhere, m[1]) {
			names = append(names, m[1])
		}
	}
	for _, n := range names {
		if !strings.Contains(string(doc), "`"+n+"`") {
			t.Errorf("docs/differences.md does not mention %s", n)
		}
	}
}

// elsewhere are cases in which the codec alone does something else than the whole proxy.
var elsewhere = []string{"upgrade-websocket-refused", "envoy-internal-headers"}
