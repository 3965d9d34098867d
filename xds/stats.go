package xds

import (
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// typeCounters are what Envoy counts for one type of resource. Istio's readiness probe
// reads them under cluster_manager.cds and listener_manager.lds.
type typeCounters struct {
	Attempt  stats.Counter `stat:"update_attempt" help:"Updates asked for."`
	Success  stats.Counter `stat:"update_success" help:"Updates that were accepted whole."`
	Rejected stats.Counter `stat:"update_rejected" help:"Updates with a resource that was refused."`
	Failure  stats.Counter `stat:"update_failure" help:"Updates that could not be fetched."`
	Timeout  stats.Counter `stat:"init_fetch_timeout" help:"Times that nothing came within initial_fetch_timeout."`
	Version  stats.Gauge   `stat:"version" help:"A number that changes with the version of the last accepted update."`
	Time     stats.Gauge   `stat:"update_time" help:"When the last update was accepted, in milliseconds since 1970."`
}

// planeCounters are control_plane.*.
type planeCounters struct {
	Connected stats.Gauge `stat:"connected_state" help:"1 while connected to the control plane."`
}

// exporter copies what the sources of configuration count into the statistics.
type exporter struct {
	clusters, listeners typeCounters
	plane               planeCounters
}

// Export shows the counters of the sources in st. They are read when someone looks.
func (d *Dynamic) Export(st *stats.Store) {
	e := &exporter{}
	st.Scope("cluster_manager").Child("cds").Bind(&e.clusters)
	st.Scope("listener_manager").Child("lds").Bind(&e.listeners)
	st.Scope("control_plane").Bind(&e.plane)
	st.BeforeRead(func() {
		clusters, listeners := ads.TypeStats{}, ads.TypeStats{}
		if d.client != nil {
			s := d.client.Stats()
			clusters, listeners = s.Types[ads.ClusterType], s.Types[ads.ListenerType]
			connected := int64(0)
			if s.Connected {
				connected = 1
			}
			e.plane.Connected.Set(connected)
		}
		for _, f := range d.files {
			switch f.TypeURL() {
			case ads.ClusterType:
				clusters = f.Stats()
			case ads.ListenerType:
				listeners = f.Stats()
			}
		}
		e.clusters.take(clusters)
		e.listeners.take(listeners)
	})
}

func (c *typeCounters) take(s ads.TypeStats) {
	raise(&c.Attempt, s.UpdateAttempt)
	raise(&c.Success, s.UpdateSuccess)
	raise(&c.Rejected, s.UpdateRejected)
	raise(&c.Failure, s.UpdateFailure)
	raise(&c.Timeout, s.InitFetchTimeout)
	if s.Version != 0 {
		c.Version.Set(int64(s.Version))
	}
	if !s.UpdateTime.IsZero() {
		c.Time.Set(s.UpdateTime.UnixMilli())
	}
}

// raise brings a counter up to a total that is counted elsewhere.
func raise(c *stats.Counter, total uint64) {
	if now := c.Value(); total > now {
		c.Add(total - now)
	}
}
