package header

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

func of(pairs ...string) *Map {
	m := &Map{}
	for i := 0; i < len(pairs); i += 2 {
		m.Add(pairs[i], pairs[i+1])
	}
	return m
}

func text(m *Map) string {
	var s []string
	for n, v := range m.All() {
		s = append(s, n+"="+v)
	}
	return strings.Join(s, " ")
}

func TestLookup(t *testing.T) {
	seen := map[string]bool{}
	for id := Other + 1; id < known; id++ {
		name := id.Name()
		if name == "" || name != strings.ToLower(name) || seen[name] {
			t.Errorf("ID %d has the name %q", id, name)
		}
		seen[name] = true
		if got := Lookup(name); got != id {
			t.Errorf("Lookup(%q) = %d, want %d", name, got, id)
		}
	}
	for _, name := range []string{"", "x", "hos", "hostt", "Host", ":metho"} {
		if got := Lookup(name); got != Other {
			t.Errorf("Lookup(%q) = %d, want Other", name, got)
		}
	}
}

func TestMap(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(m *Map)
		want string
	}{
		{"order", func(*Map) {}, "host=h x=1 accept=a x=2 accept=b"},
		{"set known", func(m *Map) { m.Set("accept", "c") }, "host=h x=1 accept=c x=2"},
		{"set by ID", func(m *Map) { m.SetID(Accept, "c") }, "host=h x=1 accept=c x=2"},
		{"set other", func(m *Map) { m.Set("x", "3") }, "host=h x=3 accept=a accept=b"},
		{"set new", func(m *Map) { m.Set("y", "3") }, "host=h x=1 accept=a x=2 accept=b y=3"},
		{"set number", func(m *Map) { m.SetInt(ContentLength, 42) }, "host=h x=1 accept=a x=2 accept=b content-length=42"},
		{"delete known", func(m *Map) { m.Del("accept") }, "host=h x=1 x=2"},
		{"delete by ID", func(m *Map) { m.DelID(Accept) }, "host=h x=1 x=2"},
		{"delete other", func(m *Map) { m.Del("x") }, "host=h accept=a accept=b"},
		{"delete what isn't there", func(m *Map) { m.Del("y") }, "host=h x=1 accept=a x=2 accept=b"},
		{"delete and add", func(m *Map) { m.Del("host"); m.Add("host", "i") }, "x=1 accept=a x=2 accept=b host=i"},
		{"delete by rule", func(m *Map) { m.DelFunc(func(f Field) bool { return f.Value == "a" || f.Value == "2" }) }, "host=h x=1 accept=b"},
		{"no name", func(m *Map) { m.Add("", "v"); m.Set("", "v"); m.Del(""); m.AddID(Other, "v") }, "host=h x=1 accept=a x=2 accept=b"},
		{"known by ID", func(m *Map) { m.AddKnown(Via, "via", "v"); m.AddKnown(Other, "z", "w") }, "host=h x=1 accept=a x=2 accept=b via=v z=w"},
		{"reset", func(m *Map) { m.Reset(); m.Add("a", "b") }, "a=b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := of("host", "h", "x", "1", "accept", "a", "x", "2", "accept", "b")
			c.do(m)
			if got := text(m); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			checkCounts(t, m)
		})
	}
}

// checkCounts compares everything that is counted or indexed with the fields.
func checkCounts(t *testing.T, m *Map) {
	t.Helper()
	n, size := 0, 0
	first := map[string]string{}
	for f := range m.Fields() {
		n++
		size += len(f.Name) + len(f.Value)
		if _, ok := first[f.Name]; !ok {
			first[f.Name] = f.Value
		}
		if f.ID != Lookup(f.Name) {
			t.Errorf("%s has ID %d", f.Name, f.ID)
		}
	}
	if m.Len() != n || m.Bytes() != size {
		t.Errorf("Len %d, Bytes %d; want %d, %d", m.Len(), m.Bytes(), n, size)
	}
	for name, value := range first {
		if got, ok := m.Find(name); !ok || got != value || m.Get(name) != value {
			t.Errorf("Find(%q) = %q, %v; want %q", name, got, ok, value)
		}
		if id := Lookup(name); id != Other && (!m.Has(id) || m.Value(id) != value) {
			t.Errorf("Value(%s) = %q, want %q", name, m.Value(id), value)
		}
	}
	for id := Other + 1; id < known; id++ {
		if _, ok := first[id.Name()]; m.Has(id) != ok {
			t.Errorf("Has(%s) = %v", id.Name(), m.Has(id))
		}
	}
}

func TestValues(t *testing.T) {
	m := of("a", "1", "cookie", "x", "a", "2", "cookie", "y")
	for name, want := range map[string][]string{"a": {"1", "2"}, "cookie": {"x", "y"}, "b": nil, "": nil} {
		if got := slices.Collect(m.Values(name)); !slices.Equal(got, want) || m.Count(name) != len(want) {
			t.Errorf("Values(%q) = %q, Count %d", name, got, m.Count(name))
		}
	}
	for v := range m.Values("a") { // what is deleted meanwhile doesn't come up
		if v == "2" {
			t.Error("a deleted value came up")
		}
		m.Del("a")
	}
}

// TestArena: what is kept in a Map stays valid when more is kept.
func TestArena(t *testing.T) {
	var m Map
	for i := range 500 {
		s := strconv.Itoa(i)
		m.Add(m.Concat("x-", s), m.Copy([]byte(s)))
		m.Add("f", m.Format(func(dst []byte) []byte { return append(dst, s...) }))
	}
	i := 0
	for f := range m.Fields() {
		if want := strconv.Itoa(i / 2); f.Value != want {
			t.Fatalf("field %d is %s=%s, want %s", i, f.Name, f.Value, want)
		}
		i++
	}
	if m.Concat() != "" || m.Copy(nil) != "" {
		t.Error("nothing is not the empty string")
	}
	m.Reset()
	if cap(m.arena) > maxArena {
		t.Errorf("%d bytes are kept from message to message", cap(m.arena))
	}
}

func TestCopyTo(t *testing.T) {
	memory := []byte("name value known")
	src := &Map{}
	src.Add(src.Copy(memory[:4]), src.Copy(memory[5:10]))
	src.Add("gone", "x")
	src.AddID(Host, src.Copy(memory[11:]))
	src.Del("gone")
	var dst Map
	dst.Add("a", "b")
	src.CopyTo(&dst, true)
	src.Reset()
	src.Copy([]byte("################")) // over the memory that dst must not share
	if got := text(&dst); got != "a=b name=value host=known" {
		t.Errorf("got %s", got)
	}
	checkCounts(t, &dst)
}

func TestAllocs(t *testing.T) {
	var m, d Map
	if n := testing.AllocsPerRun(1000, func() {
		m.Reset()
		d.Reset()
		m.AddID(Method, "GET")
		m.Add("x-some", "thing")
		m.SetInt(ContentLength, 12345)
		m.Set("x-some", m.Concat("a", "b", "c"))
		m.Del("x-other")
		for range m.All() {
		}
		for range m.Values("x-some") {
		}
		m.CopyTo(&d, true)
	}); n != 0 && !raceEnabled {
		t.Errorf("%v allocations, want 0", n)
	}
}

// FuzzMap runs a program of operations on a Map and on a plain list.
func FuzzMap(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 1, 1, 1, 2, 2, 0, 3, 3, 1})
	f.Add([]byte{0, 0, 0, 4, 0, 4, 4, 0, 1, 4, 2, 4})
	names := []string{"host", "accept", "x-a", "x-b", "cookie", ":path"}
	f.Fuzz(func(t *testing.T, program []byte) {
		var m Map
		var model []Field
		for i := 0; i+1 < len(program); i += 2 {
			name := names[int(program[i+1])%len(names)]
			value := strconv.Itoa(i)
			is := func(f Field) bool { return f.Name == name }
			switch program[i] % 5 {
			case 0:
				m.Add(name, value)
				model = append(model, Field{Name: name, Value: value})
			case 1:
				m.Set(name, value)
				if at := slices.IndexFunc(model, is); at >= 0 {
					model[at].Value = value
					tail := slices.DeleteFunc(slices.Clone(model[at+1:]), is)
					model = append(model[:at+1], tail...)
				} else {
					model = append(model, Field{Name: name, Value: value})
				}
			case 2:
				if m.Del(name) != slices.ContainsFunc(model, is) {
					t.Fatalf("Del(%s) is wrong about what was there", name)
				}
				model = slices.DeleteFunc(model, is)
			case 3:
				odd := func(f Field) bool { n, _ := strconv.Atoi(f.Value); return n%4 == 0 }
				m.DelFunc(odd)
				model = slices.DeleteFunc(model, odd)
			case 4:
				m.Reset()
				model = nil
			}
		}
		var want []string
		for _, f := range model {
			want = append(want, f.Name+"="+f.Value)
		}
		if got := text(&m); got != strings.Join(want, " ") {
			t.Fatalf("got  %s\nwant %s", got, strings.Join(want, " "))
		}
		checkCounts(t, &m)
	})
}

func BenchmarkLookup(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		for _, n := range []string{"host", "user-agent", "accept-language", "x-envoy-upstream-rq-timeout-ms", "sec-fetch-mode"} {
			Lookup(n)
		}
	}
}

// TestKeep: a map that keeps its fields does not change with what it was read from.
func TestKeep(t *testing.T) {
	slab := []byte("302/newx-oneyes")
	view := func(from, to int) string { return unsafe.String(&slab[from], to-from) }
	var m Map
	m.AddID(Status, view(0, 3))
	m.AddID(Location, view(3, 7))
	m.Add(view(7, 12), view(12, 15))
	m.Keep()
	clear(slab)
	if m.Value(Status) != "302" || m.Value(Location) != "/new" || m.Get("x-one") != "yes" {
		t.Errorf("status %q, location %q, x-one %q", m.Value(Status), m.Value(Location), m.Get("x-one"))
	}
}
