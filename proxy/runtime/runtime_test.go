package runtime

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"slices"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

func static(name string, pairs ...string) Layer {
	l := Layer{Name: name, Values: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		l.Values[pairs[i]] = pairs[i+1]
	}
	return l
}

// TestValues: what a text means for each type of setting.
func TestValues(t *testing.T) {
	def := Fraction{1, 1_000_000}
	for _, c := range []struct {
		raw      string
		uint     uint64
		double   float64
		flag     bool // with the default true
		fraction Fraction
	}{
		{"", 7, 7.5, true, def},
		{"5", 5, 5, true, Fraction{5, 100}},
		{" 5 ", 5, 5, true, Fraction{5, 100}},
		{"5.9", 5, 5.9, true, Fraction{5, 100}},
		{"1e3", 1000, 1000, true, Fraction{100, 100}},
		{"-3", 7, -3, true, def},
		{"0x10", 7, 7.5, true, def},
		{"250", 250, 250, true, Fraction{100, 100}},
		{"18446744073709551615", 18446744073709551615, 18446744073709551615, true, Fraction{100, 100}},
		{"5000000000000000000000", 7, 5e21, true, def},
		{"true", 7, 7.5, true, def},
		{"False", 7, 7.5, false, def},
		{"0", 0, 0, true, Fraction{0, 100}},
		{`{"numerator": 5, "denominator": "TEN_THOUSAND"}`, 7, 7.5, true, Fraction{5, 10_000}},
		{`{"numerator": 5, "denominator": 2}`, 7, 7.5, true, Fraction{5, 1_000_000}},
		{`{"numerator": 5, "other": 2}`, 7, 7.5, true, def},
		{`{"denominator": "MILLION"}`, 7, 7.5, true, Fraction{0, 1_000_000}},
		{"numerator: 3\ndenominator: MILLION", 7, 7.5, true, Fraction{3, 1_000_000}},
		{"numerator: 3", 7, 7.5, true, Fraction{3, 100}},
		{"numerator: 3\ndenominator: DOZEN", 7, 7.5, true, def},
		{"foo: bar", 7, 7.5, true, def},
		{"NaN", 7, 7.5, true, def},
	} {
		r := New([]Layer{static("s", "k", c.raw)}, nil)
		if got := (UintSetting{Key: "k", Default: 7}).On(r).Get(); got != c.uint {
			t.Errorf("%q as a whole number: %d, want %d", c.raw, got, c.uint)
		}
		if got := (DoubleSetting{Key: "k", Default: 7.5}).On(r).Get(); got != c.double {
			t.Errorf("%q as a number: %g, want %g", c.raw, got, c.double)
		}
		if got := (FlagSetting{Key: "k", Default: true}).On(r).Get(); got != c.flag {
			t.Errorf("%q as a flag: %t, want %t", c.raw, got, c.flag)
		}
		if got := (FractionSetting{Key: "k", Default: def}).On(r).Get(); got != c.fraction {
			t.Errorf("%q as a fraction: %v, want %v", c.raw, got, c.fraction)
		}
	}
}

func TestLimitsOfSettings(t *testing.T) {
	r := New([]Layer{static("s", "big", "4294967296", "percent", "101")}, nil)
	if got := (UintSetting{Key: "big", Default: 7, Max: 1<<32 - 1}).On(r).Get(); got != 7 {
		t.Errorf("a value beyond 32 bits was taken: %d", got)
	}
	if got := (DoubleSetting{Key: "percent", Default: 7, Percent: true}).On(r).Get(); got != 7 {
		t.Errorf("a percentage of %g was taken", got)
	}
}

// TestNoRuntime: whatever has a runtime works without one, and with a key of no name.
func TestNoRuntime(t *testing.T) {
	for _, r := range []*Runtime{nil, New(nil, nil)} {
		if got := (UintSetting{Key: "", Default: 3}).On(r).Get(); got != 3 {
			t.Errorf("got %d", got)
		}
		if got := (FractionSetting{Key: "k", Default: Fraction{1, 100}}).On(r); !got.Match(0) || got.Match(1) {
			t.Error("the default fraction is not obeyed")
		}
		if err := r.SetAdmin([][2]string{{"a", "b"}}); !errors.Is(err, ErrNoAdmin) {
			t.Errorf("error %v", err)
		}
		if v := r.View(); len(v.Entries) != 0 {
			t.Errorf("%v", v)
		}
	}
	if (FlagValue{}).Get() {
		t.Error("the zero handle is false")
	}
}

func TestLayersAndHandles(t *testing.T) {
	st := stats.NewStore()
	r := New([]Layer{static("base", "a", "1", "b", "1"), {Name: "dyn", Kind: RTDS, Resource: "res"}, {Name: "adm", Kind: Admin}}, st)
	a := UintSetting{Key: "a"}.On(r)
	want := func(n uint64) {
		t.Helper()
		if got := a.Get(); got != n {
			t.Errorf("a is %d, want %d", got, n)
		}
	}
	want(1)
	r.SetRTDS("res", map[string]string{"a": "2"})
	r.SetRTDS("another", map[string]string{"a": "9"})
	want(2)
	if err := r.SetAdmin([][2]string{{"a", "3"}, {"c", "4"}}); err != nil {
		t.Fatal(err)
	}
	want(3)
	if v := r.View(); !slices.Equal(v.Layers, []string{"base", "dyn", "adm"}) || !reflect.DeepEqual(v.Entries["a"], ViewEntry{"3", []string{"1", "2", "3"}}) || !reflect.DeepEqual(v.Entries["c"], ViewEntry{"4", []string{"", "", "4"}}) {
		t.Errorf("%v", v)
	}
	if r.stats.AdminActive.Value() != 1 || r.stats.NumKeys.Value() != 3 || r.stats.NumLayers.Value() != 3 {
		t.Errorf("stats %d %d %d", r.stats.AdminActive.Value(), r.stats.NumKeys.Value(), r.stats.NumLayers.Value())
	}
	if err := r.SetAdmin([][2]string{{"a", ""}, {"c", ""}}); err != nil {
		t.Fatal(err)
	}
	want(2)
	r.SetRTDS("res", map[string]string{})
	want(1)
	if r.stats.AdminActive.Value() != 0 {
		t.Error("nothing overrides any more")
	}
}

// TestHandlesAreForgotten: keys that only configuration of the past used cost nothing.
func TestHandlesAreForgotten(t *testing.T) {
	r := New([]Layer{{Name: "adm", Kind: Admin}}, nil)
	kept := r.Key("kept")
	for range 100 {
		r.Key("passing")
	}
	r.Key("gone")
	for range 10 {
		goruntime.GC()
		if err := r.SetAdmin(nil); err != nil {
			t.Fatal(err)
		}
		if len(r.keys) == 1 {
			break
		}
	}
	if got := slices.Collect(maps.Keys(r.keys)); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("handles %v", got)
	}
	goruntime.KeepAlive(kept)
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("v1/srv/int", "42\n")
	put("v1/srv/sp", " 7 ")
	put("v1/srv/cm", "# c\nabc\n#x\n")
	put("v1/srv/ml", "line1\nline2\n")
	put("v1/srv/empty", "")
	put("v1/srv/a.b/c/d", "1")
	put("v1/ovr/c1/int", "99")
	put("v2/srv/int", "43")
	link := func(to string) {
		tmp := filepath.Join(dir, "tmp")
		if err := errors.Join(os.Symlink(to, tmp), os.Rename(tmp, filepath.Join(dir, "cur"))); err != nil {
			t.Fatal(err)
		}
	}
	link("v1")
	cur := filepath.Join(dir, "cur")
	r := New([]Layer{
		{Name: "srv", Kind: Disk, Directory: filepath.Join(cur, "srv")},
		{Name: "ovr", Kind: Disk, Directory: filepath.Join(cur, "ovr", "c1")},
		{Name: "missing", Kind: Disk, Directory: filepath.Join(cur, "missing")},
	}, nil)
	got := map[string]string{}
	for k, e := range r.View().Entries {
		got[k] = e.Final
	}
	// As Envoy 1.40 showed them in /runtime for the same files.
	want := map[string]string{"int": "99", "sp": " 7", "cm": "abc\n", "ml": "line1\nline2", "empty": "", "a.b.c.d": "1"}
	if !maps.Equal(got, want) {
		t.Errorf("values %q, want %q", got, want)
	}
	if l := r.View().Layers; !slices.Equal(l, []string{"srv", "ovr"}) {
		t.Errorf("layers %v", l)
	}
	n := UintSetting{Key: "int"}.On(r)
	link("v2")
	if n.Get() != 99 {
		t.Error("the values changed before they were read again")
	}
	if r.Reload(); n.Get() != 43 {
		t.Errorf("after the swap: %d", n.Get())
	}
	if r.stats.DirExists.Value() != 1 || r.stats.DirNotExists.Value() != 1 || r.stats.LoadSuccess.Value() != 2 {
		t.Errorf("stats: %d exists, %d not, %d loads", r.stats.DirExists.Value(), r.stats.DirNotExists.Value(), r.stats.LoadSuccess.Value())
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	r := New([]Layer{static("s", "k", `{"numerator":50}`, "n", "3")}, nil)
	f, n := FractionSetting{Key: "k"}.On(r), UintSetting{Key: "n"}.On(r)
	if got := testing.AllocsPerRun(100, func() {
		if !f.Match(7) || n.Get() != 3 {
			t.Error("wrong value")
		}
	}); got != 0 {
		t.Errorf("%g allocations", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "5", "true", `{"numerator":5,"denominator":"MILLION"}`, "numerator: 3\ndenominator: MILLION", "{", ":", "-1", "NaN", "inf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := parse(withoutComments(s))
		if e.isFraction && e.fraction.Denominator == 0 {
			t.Errorf("%q: a denominator of 0", s)
		}
		if e.isInteger && !e.isNumber {
			t.Errorf("%q is a whole number and no number", s)
		}
	})
}
