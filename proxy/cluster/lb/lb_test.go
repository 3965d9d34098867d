package lb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func seeded() func() uint64 { return rand.New(rand.NewPCG(1, 2)).Uint64 }

// keyed returns n hosts with equal shares.
func keyed(n int) []Keyed {
	hosts := make([]Keyed, n)
	for i := range hosts {
		hosts[i] = Keyed{fmt.Sprintf("10.0.%d.%d:80", i/256, i%256), 1 / float64(n)}
	}
	return hosts
}

func TestScheduleKeepsExactlyToWeights(t *testing.T) {
	weights := []float64{1, 2, 3, 10}
	s := NewSchedule(len(weights), 12345, func(i int) float64 { return weights[i] })
	counts := make([]int, len(weights))
	for range 16 * 100 {
		counts[s.Next()]++
	}
	for i, w := range weights {
		if want := int(w) * 100; counts[i] < want-1 || counts[i] > want+1 {
			t.Errorf("host %d came up %d times, want %d", i, counts[i], want)
		}
	}
}

func TestTablesShareByWeight(t *testing.T) {
	hosts := []Keyed{{"a", 0.1}, {"b", 0.2}, {"c", 0.3}, {"d", 0.4}}
	for name, table := range map[string]Table{
		"ring":   NewRing(hosts, RingSize{Min: 100000, Max: 8 << 20}),
		"maglev": NewMaglev(hosts, 65537),
	} {
		rnd, counts := seeded(), make([]int, len(hosts))
		const n = 100000
		for range n {
			counts[table.Pick(rnd(), 0)]++
		}
		for i, h := range hosts {
			if got := float64(counts[i]) / n; math.Abs(got-h.Share) > 0.01 {
				t.Errorf("%s: host %d gets %.3f, want %.3f", name, i, got, h.Share)
			}
		}
		if sp := table.Spread(); sp.Min == 0 || sp.Max < sp.Min || sp.Size < sp.Max {
			t.Errorf("%s: spread %+v", name, sp)
		}
	}
}

// When one host goes, hardly anybody but its own requests moves; with a ring nobody.
func TestTablesMoveLittle(t *testing.T) {
	const n = 50
	all := keyed(n)
	for gone := range 5 {
		rest := make([]Keyed, 0, n-1)
		for i, h := range all {
			if i != gone*7 {
				rest = append(rest, Keyed{h.Key, 1 / float64(n-1)})
			}
		}
		for name, tables := range map[string][2]Table{
			"ring":   {NewRing(all, RingSize{Min: n * 100, Max: 8 << 20}), NewRing(rest, RingSize{Min: (n - 1) * 100, Max: 8 << 20})},
			"maglev": {NewMaglev(all, 65537), NewMaglev(rest, 65537)},
		} {
			rnd, moved := seeded(), 0
			for range 20000 {
				h := rnd()
				was, is := all[tables[0].Pick(h, 0)].Key, rest[tables[1].Pick(h, 0)].Key
				if was != is && was != all[gone*7].Key {
					moved++
				}
			}
			if most := map[string]int{"ring": 0, "maglev": 20000 * 4 / 100}[name]; moved > most {
				t.Errorf("%s: %d of 20000 requests of other hosts moved, at most %d may", name, moved, most)
			}
		}
	}
}

// The order in which hosts are listed changes nothing, as long as all have one share.
func TestTablesDoNotDependOnOrder(t *testing.T) {
	a := keyed(20)
	b := append(append([]Keyed{}, a[7:]...), a[:7]...)
	for name, tables := range map[string][2]Table{
		"ring":   {NewRing(a, RingSize{Min: 1024, Max: 8 << 20}), NewRing(b, RingSize{Min: 1024, Max: 8 << 20})},
		"maglev": {NewMaglev(a, 1009), NewMaglev(b, 1009)},
	} {
		rnd := seeded()
		for range 1000 {
			h := rnd()
			if x, y := a[tables[0].Pick(h, 0)].Key, b[tables[1].Pick(h, 0)].Key; x != y {
				t.Fatalf("%s: %s or %s, by the order of the hosts", name, x, y)
			}
		}
	}
}

func TestFurtherAttemptsLookElsewhere(t *testing.T) {
	hosts := keyed(10)
	for name, table := range map[string]Table{"ring": NewRing(hosts, RingSize{Min: 1024, Max: 8 << 20}), "maglev": NewMaglev(hosts, 1009)} {
		rnd := seeded()
		for range 100 {
			h, seen := rnd(), map[int]bool{}
			for attempt := range 40 {
				seen[table.Pick(h, attempt)] = true
			}
			if len(seen) < 5 {
				t.Errorf("%s: 40 attempts saw %d hosts", name, len(seen))
			}
		}
	}
}

func TestEmptyTables(t *testing.T) {
	for _, table := range []Table{NewRing(nil, RingSize{Min: 1, Max: 1}), NewMaglev(nil, 7)} {
		if h := table.Pick(1, 0); h != -1 {
			t.Errorf("%T without hosts picks %d", table, h)
		}
	}
}

// TestMersenne: the first numbers of the reference implementation for its usual seed.
func TestMersenne(t *testing.T) {
	var m mersenne
	m.seed(5489)
	for _, want := range []uint32{3499211612, 581869302, 3890346734, 3586334585, 545404204} {
		if got := m.next(); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	}
	for range 9994 {
		m.next()
	}
	if got := m.next(); got != 4123659995 { // the ten thousandth, as the C++ standard has it
		t.Errorf("the ten thousandth is %d", got)
	}
}

func TestBoundedLoads(t *testing.T) {
	hosts := keyed(10)
	shares := make([]float64, len(hosts))
	for i := range shares {
		shares[i] = hosts[i].Share
	}
	active, total := make([]int64, len(hosts)), int64(0)
	b := &Bounded{
		Table: NewRing(hosts, RingSize{Min: 1024, Max: 8 << 20}), Shares: shares, Factor: 125,
		Active: func(i int) int64 { return active[i] }, Total: func() int64 { return total },
	}
	for range 1000 { // all of them for the same key
		active[b.Pick(42, 0)]++
		total++
	}
	for i, n := range active {
		if n > 1000/10*125/100+1 {
			t.Errorf("host %d is busy with %d, 125 %% of its share are 125", i, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { b.Pick(42, 0) }); n > 0 && !raceEnabled {
		t.Errorf("a pick of a busy host allocates %v times", n)
	}
}

func TestZones(t *testing.T) {
	for _, tc := range []struct {
		name             string
		zones            []Zone
		total            int
		hasLocal, direct bool
		state            ZoneState
		want             []float64 // by zone, of 1
	}{
		{"as many here as we are", []Zone{{5, 5}, {5, 5}}, 10, true, false, LocalZone, nil},
		{"more here", []Zone{{8, 2}, {2, 8}}, 10, true, false, LocalZone, nil},
		{"fewer here", []Zone{{1, 5}, {9, 5}}, 10, true, false, ResidualZone, []float64{.2, .8}},
		{"forced", []Zone{{1, 5}, {9, 5}}, 10, true, true, LocalZone, nil},
		{"none here", []Zone{{5, 0}, {5, 5}}, 10, false, false, ResidualZone, []float64{1, 0}},
		{"Envoy's example", []Zone{{25, 40}, {50, 40}, {25, 20}}, 100, true, false, ResidualZone, []float64{.625, .25, .125}},
	} {
		z := NewZones(tc.zones, tc.total, tc.hasLocal, tc.direct)
		if z.State != tc.state {
			t.Errorf("%s: state %d, want %d", tc.name, z.State, tc.state)
		}
		if tc.want == nil || z.State != ResidualZone {
			continue
		}
		rnd, counts := seeded(), make([]int, len(tc.zones))
		for range 100000 {
			i, _ := z.Choose(rnd)
			counts[i]++
		}
		for i, want := range tc.want {
			if got := float64(counts[i]) / 100000; math.Abs(got-want) > 0.01 {
				t.Errorf("%s: zone %d gets %.3f, want %.3f", tc.name, i, got, want)
			}
		}
	}
}

func TestIsPrime(t *testing.T) {
	for n, want := range map[uint64]bool{0: false, 1: false, 2: true, 3: true, 4: false, 9: false, 1009: true, 65537: true, 5000011: true, 5000013: false} {
		if IsPrime(n) != want {
			t.Errorf("IsPrime(%d) is %v", n, !want)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		hosts := keyed(n)
		b.Run(fmt.Sprintf("ring/%d", n), func(b *testing.B) {
			for b.Loop() {
				NewRing(hosts, RingSize{Min: 1024, Max: 8 << 20})
			}
		})
		b.Run(fmt.Sprintf("maglev/%d", n), func(b *testing.B) {
			for b.Loop() {
				NewMaglev(hosts, 65537)
			}
		})
	}
}
