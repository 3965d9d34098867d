package outlier

import (
	"math"
	"time"
)

// Sweep looks at all hosts: who was out for long enough comes back, who succeeds less
// than the others goes out. It is to be called each Interval.
func (d *Detector) Sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, v := time.Now(), d.values.Load()
	for _, m := range d.hosts {
		if m.ejected && now.Sub(m.out) >= term(m.backOff, v)+m.jitter {
			d.back(m, now)
			d.try(m)
		}
		if m.degraded && now.Sub(m.degradedAt) >= term(m.degradeOff, v)+m.degradeWait {
			m.degraded, m.undegraded = false, now
			m.host.Degrade(false)
		}
		m.rates[external].swap()
		m.rates[local].swap()
	}
	d.compare(external, now)
	d.compare(local, now)
	for _, m := range d.hosts {
		m.backOff = shrunk(m.backOff, m.ejected, m.back, now, d.Interval())
		m.degradeOff = shrunk(m.degradeOff, m.degraded, m.undegraded, now, d.Interval())
	}
}

// term is how long an ejection takes, jitter aside.
func term(times int64, v *values) time.Duration {
	base, longest := milliseconds(v.base), milliseconds(v.longest)
	if base > 0 && times > int64(longest/base) {
		return longest
	}
	return min(base*time.Duration(times), longest)
}

// shrunk is the number of ejections in short order after a sweep that found the host well.
func shrunk(n int64, out bool, back, now time.Time, interval time.Duration) int64 {
	if out || n == 0 || back.IsZero() || now.Sub(back) < interval {
		return n
	}
	return n - 1
}

// compare looks for hosts that succeed less than the others, or too little. The lock is
// held.
func (d *Detector) compare(which int, now time.Time) {
	v := d.values.Load()
	d.rates[which] = unknown
	rateHosts, failHosts := v.rateHosts.Get(), v.failHosts.Get()
	if n := uint64(len(d.hosts)); n < rateHosts && n < failHosts {
		return
	}
	rateVolume, failVolume := v.rateVolume.Get(), v.failRequests.Get()
	var rated, counted []*Monitor
	for _, m := range d.hosts {
		r := &m.rates[which]
		if m.ejected || r.wasAll == 0 || r.wasAll < min(rateVolume, failVolume) {
			continue
		}
		r.percent = 100 * float64(r.wasOK) / float64(r.wasAll)
		if r.wasAll >= rateVolume {
			rated = append(rated, m)
		}
		if r.wasAll >= failVolume {
			counted = append(counted, m)
		}
	}
	if len(rated) > 0 && uint64(len(rated)) >= rateHosts {
		d.rates[which] = averages(rated, which, float64(v.factor.Get())/1000)
		kind := [...]Kind{external: SuccessRate, local: SuccessRateLocal}[which]
		for _, m := range rated {
			if m.rates[which].percent < d.rates[which].Threshold {
				d.env.Stats.OldRate.Inc()
				d.detected(kind)
				d.eject(m, kind, now)
			}
		}
	}
	if len(counted) > 0 && uint64(len(counted)) >= failHosts {
		kind := [...]Kind{external: FailurePercentage, local: FailurePercentageLocal}[which]
		for _, m := range counted {
			if 100-m.rates[which].percent >= float64(v.failure.Get()) {
				d.detected(kind)
				d.eject(m, kind, now)
			}
		}
	}
}

// averages is the mean of the hosts' success rates, and what is too far below it.
func averages(hosts []*Monitor, which int, factor float64) Averages {
	sum, squares, n := 0.0, 0.0, float64(len(hosts))
	for _, m := range hosts {
		sum += m.rates[which].percent
	}
	mean := sum / n
	for _, m := range hosts {
		squares += (m.rates[which].percent - mean) * (m.rates[which].percent - mean)
	}
	return Averages{mean, mean - factor*math.Sqrt(squares/n)}
}

// Averages returns what hosts were compared with by the last sweep: their answers, and
// how they were reached.
func (d *Detector) Averages() (answers, connections Averages) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rates[external], d.rates[local]
}

// Rates returns the success rates of the last interval in percent, -1 where there was too
// little to say.
func (m *Monitor) Rates() (answers, connections float64) {
	if m == nil {
		return -1, -1
	}
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	return m.rates[external].percent, m.rates[local].percent
}
