package cluster

import (
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
)

// outliers watch the answers of a cluster's hosts, across versions of the cluster.
type outliers struct {
	detector *outlier.Detector
	watch    *hostWatch
	sweep    event

	mu      sync.Mutex
	stopped bool
}

// Outlier returns who watches the answers of the host; nil, which takes reports and does
// nothing, if nobody does.
func (h *Host) Outlier() *outlier.Monitor { return h.ep.outlier.Load() }

// Outlier returns the detector of a cluster in use, nil if it has none (admin).
func (c *Cluster) Outlier() *outlier.Detector {
	if r := c.run.Load(); r != nil {
		if o := r.core.outliers.Load(); o != nil {
			return o.detector
		}
	}
	return nil
}

// watchOutliers follows outlier_detection of a configuration. What is known of hosts
// outlives a new one. The manager's lock is held.
func (co *core) watchOutliers(m *Manager, s *Spec) {
	o := co.outliers.Load()
	switch {
	case s.Outlier == nil:
		co.stopOutliers(m)
		return
	case o != nil:
		o.detector.Configure(s.Outlier)
		return
	}
	if co.outlierStats == nil {
		co.outlierStats = &outlier.Stats{}
		if co.scope != nil {
			co.scope.Child("outlier_detection").Bind(co.outlierStats)
		}
	}
	o = &outliers{}
	o.detector = outlier.New(s.Outlier, outlier.Env{Stats: co.outlierStats, Runtime: m.options.Runtime, Rand: m.rnd, Log: m.logOutlier(s.Name)})
	o.watch = &hostWatch{HostWatcher: HostWatcher{Changed: func(added, removed []*Host) { o.changed(co, added, removed) }}, passive: true}
	o.sweep.run = func() {
		o.detector.Sweep()
		o.arm(m)
	}
	co.outliers.Store(o)
	co.watches.add(o.watch) // it is told when the manager's lock is released
	o.arm(m)
}

// logOutlier writes what a detector of a cluster does.
func (m *Manager) logOutlier(cluster string) func(*outlier.Event) {
	if m.options.OutlierLog == nil {
		return nil
	}
	return func(e *outlier.Event) {
		e.Cluster = cluster
		m.options.OutlierLog(e.Line())
	}
}

func (o *outliers) arm(m *Manager) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.stopped {
		m.agenda.set(&o.sweep, time.Now().Add(o.detector.Interval()))
	}
}

// changed follows the hosts of the cluster.
func (o *outliers) changed(co *core, added, removed []*Host) {
	gone := make([]*outlier.Monitor, 0, len(removed))
	for _, h := range removed {
		gone = append(gone, h.ep.outlier.Swap(nil))
	}
	o.detector.Remove(gone)
	for _, h := range added {
		ep := h.ep
		ep.outlier.Store(o.detector.Add(outlier.Host{
			Address: h.Addr.String(),
			Eject:   func(on bool) { co.flag(ep, FailedOutlierCheck, on) },
			Degrade: func(on bool) { co.flag(ep, DegradedOutlierDetection, on) },
		}))
	}
}

// flag sets a flag of a host, or takes it off.
func (co *core) flag(ep *endpoint, f HealthFlags, on bool) {
	c := co.newest.Load()
	switch {
	case c == nil:
	case on:
		c.setFlags(ep, f, 0)
	default:
		c.setFlags(ep, 0, f)
	}
}

// stopOutliers ends the watch: hosts that were out come back. The manager's lock is held,
// which setting flags must not wait for.
func (co *core) stopOutliers(m *Manager) {
	o := co.outliers.Swap(nil)
	if o == nil {
		return
	}
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	m.agenda.cancel(&o.sweep)
	co.watches.remove(o.watch)
	m.goWork(func() {
		o.watch.stop()
		o.detector.Stop()
	})
}
