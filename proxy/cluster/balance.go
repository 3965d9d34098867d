package cluster

import "math"

// healthCount is how many hosts a priority has, excluded ones aside, and what they
// weigh: as many, or the sum of their weights with weighted_priority_health.
type healthCount struct {
	hosts, healthy, degraded              int
	weight, healthyWeight, degradedWeight int
	all                                   int // excluded ones included
}

// loads says how many percent of the load each priority gets, for its healthy and for
// its degraded hosts, and whether it panics: takes all its hosts for healthy.
type loads struct {
	healthy, degraded []int
	panics            []bool
}

// balanceLoad spreads the load over priorities as Envoy does: a priority gets as much
// as its share of healthy hosts times the overprovisioning factor allows, the next one
// gets what is left. Where hardly anything is healthy anywhere, health is ignored.
func balanceLoad(counts []healthCount, overprovisioning int, panicThreshold float64) loads {
	n := len(counts)
	l := loads{make([]int, n), make([]int, n), make([]bool, n)}
	healthy, degraded, sum := make([]int, n), make([]int, n), 0
	for i, c := range counts {
		healthy[i], degraded[i] = c.availability(overprovisioning)
		sum += healthy[i] + degraded[i]
	}
	available := min(100, sum)
	if available > 0 {
		firstHealthy, left := distribute(l.healthy, healthy, 100, available)
		firstDegraded, left := distribute(l.degraded, degraded, left, available)
		switch { // what is left by rounding
		case firstHealthy >= 0:
			l.healthy[firstHealthy] += left
		case firstDegraded >= 0:
			l.degraded[firstDegraded] += left
		}
	}
	threshold := 0.0
	if panicThreshold > 0 { // a whole number of percent, as Envoy has it
		threshold = math.Round(min(100, panicThreshold))
	}
	if threshold == 0 && available == 0 {
		l.healthy[0] = 100 // to nobody
		return l
	}
	all := true
	for i, c := range counts {
		// With shares of less than a percent everywhere nothing would get any load:
		// then health counts nowhere.
		l.panics[i] = available == 0 || available < 100 && c.usable() < threshold
		all = all && l.panics[i]
	}
	if all {
		l.byNumber(counts)
	}
	return l
}

// availability returns how many percent of the whole load the healthy and the degraded
// hosts of a priority can take.
func (c healthCount) availability(overprovisioning int) (healthy, degraded int) {
	if c.weight == 0 {
		return 0, 0
	}
	return min(100, overprovisioning*c.healthyWeight/c.weight), min(100, overprovisioning*c.degradedWeight/c.weight)
}

// usable returns how many percent of the hosts are healthy or degraded.
func (c healthCount) usable() float64 {
	if c.hosts == 0 {
		return 0
	}
	return 100 * float64(c.healthy+c.degraded) / float64(c.hosts)
}

// distribute gives each priority what it can take of the load. It returns the first
// priority that can take any, or -1, and the load that is left.
func distribute(load, can []int, total, available int) (first, left int) {
	first = -1
	for i, c := range can {
		if first < 0 && c > 0 {
			first = i
		}
		load[i] = min(total, c*100/available)
		total -= load[i]
	}
	return first, total
}

// byNumber spreads the load by the number of hosts alone.
func (l *loads) byNumber(counts []healthCount) {
	total, left, first := 0, 100, -1
	for _, c := range counts {
		total += c.all
	}
	if total == 0 {
		l.healthy[0] = 100
		return
	}
	for i, c := range counts {
		if first < 0 && c.all > 0 {
			first = i
		}
		l.healthy[i], l.degraded[i] = 100*c.all/total, 0
		left -= l.healthy[i]
	}
	l.healthy[first] += left
}
