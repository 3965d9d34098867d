package cluster

import (
	"fmt"
	"testing"
)

func countOf(hosts, healthy, degraded int) healthCount {
	return healthCount{hosts, healthy, degraded, hosts, healthy, degraded, hosts}
}

// The cases with two and three priorities are those of Envoy's documentation of
// priority levels.
func TestBalanceLoad(t *testing.T) {
	of100 := func(healthy int) healthCount { return countOf(100, healthy, 0) }
	for _, tc := range []struct {
		name   string
		counts []healthCount
		panic  float64
		want   string // healthy, degraded, panics
	}{
		{"all healthy", []healthCount{of100(100), of100(100)}, 50, "[100 0] [0 0] [false false]"},
		{"72 %", []healthCount{of100(72), of100(100)}, 50, "[100 0] [0 0] [false false]"},
		{"71 %", []healthCount{of100(71), of100(100)}, 50, "[99 1] [0 0] [false false]"},
		{"50 %", []healthCount{of100(50), of100(100)}, 50, "[70 30] [0 0] [false false]"},
		{"25 % and 100 %", []healthCount{of100(25), of100(100)}, 50, "[35 65] [0 0] [false false]"},
		{"0 % and 100 %", []healthCount{of100(0), of100(100)}, 50, "[0 100] [0 0] [false false]"},
		{"normalised", []healthCount{of100(25), of100(25)}, 0, "[50 50] [0 0] [false false]"},
		{"panic by number", []healthCount{countOf(4, 1, 0), countOf(4, 1, 0)}, 50, "[50 50] [0 0] [true true]"},
		{"panic of one", []healthCount{of100(5), of100(60)}, 50, "[8 92] [0 0] [true false]"},
		{"three", []healthCount{of100(20), of100(20), of100(20)}, 0, "[34 33 33] [0 0 0] [false false false]"},
		{"degraded takes the rest", []healthCount{countOf(100, 50, 50)}, 50, "[70] [30] [false]"},
		{"only degraded", []healthCount{countOf(10, 0, 10)}, 50, "[0] [100] [false]"},
		{"no hosts", []healthCount{{}}, 50, "[100] [0] [true]"},
		{"an empty priority first", []healthCount{{}, of100(100)}, 50, "[0 100] [0 0] [false false]"},
		{"nothing healthy, panic by number", []healthCount{countOf(3, 0, 0), countOf(1, 0, 0)}, 50, "[75 25] [0 0] [true true]"},
		{"nothing healthy, no panic", []healthCount{countOf(3, 0, 0), countOf(1, 0, 0)}, 0, "[100 0] [0 0] [false false]"},
	} {
		l := balanceLoad(tc.counts, 140, tc.panic)
		if got := fmt.Sprint(l.healthy, l.degraded, l.panics); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// Whatever the hosts, the load is spread completely.
func FuzzBalanceLoad(f *testing.F) {
	f.Add(3, 1, 0, 5, 2, 1, 140, 50.0)
	f.Add(0, 0, 0, 0, 0, 0, 100, 0.0)
	f.Fuzz(func(t *testing.T, n0, h0, d0, n1, h1, d1, factor int, threshold float64) {
		count := func(n, h, d int) healthCount {
			n = abs(n) % 1000
			h = abs(h) % (n + 1)
			return countOf(n, h, abs(d)%(n-h+1))
		}
		l := balanceLoad([]healthCount{count(n0, h0, d0), count(n1, h1, d1)}, 100+abs(factor)%100, threshold)
		sum := l.healthy[0] + l.healthy[1] + l.degraded[0] + l.degraded[1]
		if sum != 100 {
			t.Fatalf("the load sums to %d: %+v", sum, l)
		}
	})
}

func abs(n int) int { return int(uint(n) >> 1) }
