package route

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// randomPath makes paths that have much in common.
func randomPath(r *rand.Rand) string {
	p := ""
	for range 1 + r.IntN(5) {
		p += [...]string{"/", "/a", "/b", "/ab", "a", "B", ";x", "/É", ".png"}[r.IntN(9)]
	}
	if p[0] != '/' {
		p = "/" + p
	}
	return p
}

func randomMatcher(t *testing.T, r *rand.Rand) match.Path {
	p, fold := randomPath(r), r.IntN(4) == 0
	switch r.IntN(6) {
	case 0:
		return match.PathPrefix(p[:r.IntN(len(p)+1)], fold)
	case 1:
		return match.PathExact(p, fold)
	case 2:
		return match.PathSeparated(p, fold)
	case 3:
		tail := [...]string{"", ".*", "[a-z/]*", "?", "|/b"}[r.IntN(5)]
		re, err := match.CompileRegexp([...]string{"", "^", "(?i)", "(", "()"}[r.IntN(3)] + p + tail)
		if err != nil {
			t.Fatal(err)
		}
		return match.PathRegexp(re)
	case 4:
		tpl, err := match.ParseTemplate([...]string{"/a/*", "/**", "/a;x/*", "/ab/{x}/**", "/a/{x=b/*}.png", "/"}[r.IntN(6)])
		if err != nil {
			t.Fatal(err)
		}
		return match.PathTemplate(tpl)
	}
	return match.PathPrefix("/", false)
}

// TestIndexIsTheList: with and without the index the same route is found, whatever the
// table and the request.
func TestIndexIsTheList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		vh := &VirtualHost{Domains: []string{"*"}}
		for i := range 1 + r.IntN(40) {
			m := Match{Path: randomMatcher(t, r), Connect: r.IntN(30) == 0}
			if r.IntN(2) == 0 {
				m.More = &Conditions{Headers: match.Headers{match.HeaderPresent(match.HeaderOptions{Name: "x"}, r.IntN(2) == 0)}}
			}
			vh.Routes = append(vh.Routes, Entry{Match: m, Route: forward(fmt.Sprint(i))})
		}
		table, err := NewTable("t", []*VirtualHost{vh}, Options{IgnoreParams: r.IntN(2) == 0})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			s := stream("h", randomPath(r)+[...]string{"", "?q=1", "#f", ";p=1?q", "/;/b"}[r.IntN(5)])
			if r.IntN(2) == 0 {
				s.Request.Add("x", "1")
			}
			if r.IntN(10) == 0 {
				s.Request.SetID(header.Method, "CONNECT")
				s.Request.DelID(header.Path)
			}
			want := ""
			table.Explain(s, func(_ int, e *Entry, failed Predicate) bool {
				if failed.Kind == Matched {
					want = e.Route.RouteName
				}
				return true
			})
			if got := table.Match(s); name(got) != want {
				t.Fatalf("%s: got route %q, the list says %q", s.Request.Value(header.Path), name(got), want)
			}
		}
	}
}

func name(r filter.Route) string {
	if r == nil {
		return ""
	}
	return r.Name()
}

// manyRoutes is a virtual host as big ones are: most routes by prefix, some by exact
// path, a few by expression, the rest to a default.
func manyRoutes(t testing.TB, n int) *Table {
	t.Helper()
	vh := &VirtualHost{Domains: []string{"*"}}
	for i := range n - 1 {
		m := Match{Path: match.PathPrefix(fmt.Sprintf("/api/v1/service-%d/", i), false)}
		switch {
		case i%10 == 3:
			m.Path = match.PathExact(fmt.Sprintf("/api/v1/service-%d", i), false)
		case i%10 == 6:
			re, err := match.CompileRegexp(fmt.Sprintf("/api/v1/service-%d/[a-z]+", i))
			if err != nil {
				t.Fatal(err)
			}
			m.Path = match.PathRegexp(re)
		}
		vh.Routes = append(vh.Routes, Entry{Match: m, Route: forward(fmt.Sprint(i))})
	}
	vh.Routes = append(vh.Routes, Entry{Match: Match{Path: match.PathPrefix("/", false)}, Route: forward("rest")})
	table, err := NewTable("t", []*VirtualHost{vh}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestWorkDoesNotGrow: however many routes there are, only those whose path can match
// are tested.
func TestWorkDoesNotGrow(t *testing.T) {
	for _, n := range []int{10, 100, 10_000} {
		table := manyRoutes(t, n)
		for i := range n - 1 {
			var c candidates
			table.hosts.at(table.domains.any).list.index.find(fmt.Sprintf("/api/v1/service-%d/x", i), &c)
			count := 0
			for i, _ := c.next(); i >= 0; i, _ = c.next() {
				count++
			}
			if count > 2 {
				t.Fatalf("%d routes: %d candidates for service %d", n, count, i)
			}
		}
	}
}

// TestNestedPrefixes: beginnings of each other cost no more than a list of them.
func TestNestedPrefixes(t *testing.T) {
	vh := &VirtualHost{Domains: []string{"*"}}
	path := "/"
	for i := range 200 {
		path += "a"
		vh.Routes = append(vh.Routes, Entry{Match: Match{Path: match.PathPrefix(path, i%2 == 0)}, Route: forward(fmt.Sprint(i))})
	}
	table, err := NewTable("t", []*VirtualHost{vh}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := name(table.Match(stream("h", path))); got != "0" {
		t.Errorf("got route %q", got)
	}
	if got := len(vh.list.index.lists); got != 200 {
		t.Errorf("%d entries in the lists of 200 routes", got)
	}
}

// TestDomains: the tries find what a search through all domains finds.
func TestDomains(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	label := func() string { return [...]string{"a", "b", "ab", "ba", "-a", "www"}[r.IntN(6)] }
	domain := func() string {
		d := label()
		for range r.IntN(3) {
			d += "." + label()
		}
		return d
	}
	for range 2000 {
		var hosts []*VirtualHost
		seen := map[string]bool{}
		for range r.IntN(20) {
			d := domain()
			switch r.IntN(4) {
			case 0:
				d = "*" + d[r.IntN(len(d)):]
			case 1:
				d = d[:1+r.IntN(len(d))] + "*"
			case 2:
				d = "*"
			}
			if !seen[d] {
				seen[d] = true
				hosts = append(hosts, &VirtualHost{Name: d, Domains: []string{d}})
			}
		}
		table, err := NewTable("t", hosts, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			host := domain()
			if got, want := table.hosts.at(table.domains.find(host)), slowFind(hosts, host); got != want {
				t.Fatalf("%s: got %v, want %v", host, got, want)
			}
		}
	}
}

// slowFind is what the documentation of VirtualHost.domains says.
func slowFind(hosts []*VirtualHost, host string) (best *VirtualHost) {
	rank := -1
	for _, vh := range hosts {
		d := vh.Domains[0]
		n := len(d) - 1
		r := -1
		switch {
		case d == host:
			r = 3000
		case d == "*":
			r = 0
		case d[0] == '*' && len(host) > n && host[len(host)-n:] == d[1:]:
			r = 2000 + n
		case d[n] == '*' && len(host) > n && host[:n] == d[:n]:
			r = 1000 + n
		}
		if r > rank {
			best, rank = vh, r
		}
	}
	return best
}

func benchmarkMatch(b *testing.B, table *Table, n int) {
	paths := make([]string, 1024)
	for i := range paths {
		paths[i] = fmt.Sprintf("/api/v1/service-%d/x?y=z", i*7919%n)
	}
	s := stream("h", "/")
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.Request.SetID(header.Path, paths[i&1023])
		table.Match(s)
		i++
	}
}

// BenchmarkRoutes: 10,000 routes cost at most twice of 10.
func BenchmarkRoutes(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkMatch(b, manyRoutes(b, n), n) })
	}
}

// manyHosts is a table of n virtual hosts, half of them with wildcards of many lengths, and
// name is a host of the i-th one.
func manyHosts(t testing.TB, n int) (table *Table, name func(i int) string) {
	t.Helper()
	hosts := make([]*VirtualHost, n)
	for i := range hosts {
		d := fmt.Sprintf("service-%d.namespace-%0*d.svc.cluster.local", i, 1+i%20, i%7)
		if i%2 == 0 {
			d = "*." + d
		}
		hosts[i] = &VirtualHost{Name: d, Domains: []string{d}, Routes: []Entry{
			{Match: Match{Path: match.PathPrefix("/", false)}, Route: forward(d)},
		}}
	}
	table, err := NewTable("t", hosts, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return table, func(i int) string {
		return fmt.Sprintf("x.service-%d.namespace-%0*d.svc.cluster.local", i, 1+i%20, i%7)[2*(i%2):]
	}
}

// TestHostWorkDoesNotGrow: however many virtual hosts there are, a name is looked up once,
// and of its endings those that begin with a label.
func TestHostWorkDoesNotGrow(t *testing.T) {
	for _, n := range []int{10, 10_000} {
		table, name := manyHosts(t, n)
		labels := &table.domains.labels
		looks := func(host string) (n int) {
			for at := labels.next(host, 1); at > 0; at = labels.next(host, at+1) {
				n++
			}
			return n
		}
		if table.domains.suffixes != nil {
			t.Error("wildcards for whole labels are in a trie")
		}
		for i := range n {
			if host := name(i); looks(host) > strings.Count(host, ".") {
				t.Fatalf("%d looks for %s in %d virtual hosts", looks(host), host, n)
			}
		}
		if long := strings.Repeat("a.", 30_000); looks(long) > len(labels.lengths) {
			t.Errorf("%d looks for a name of %d bytes", looks(long), len(long))
		}
	}
}

// BenchmarkVirtualHosts: as many virtual hosts. "hot" asks for the same one again and again:
// that is the work; "cold" asks for 1024 of them by turns: that is the work and what memory
// adds to it.
func BenchmarkVirtualHosts(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		for of, distinct := range map[string]int{"hot": 1, "cold": 1024} {
			b.Run(fmt.Sprint(n, "/", of), func(b *testing.B) {
				table, name := manyHosts(b, n)
				names := make([]string, 1024)
				for i := range names {
					names[i] = name(i % distinct * 7919 % n)
				}
				s := stream("h", "/")
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					s.Request.SetID(header.Authority, names[i&1023])
					if table.Match(s) == nil {
						b.Fatal("no route")
					}
					i++
				}
			})
		}
	}
}
