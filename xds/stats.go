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
	Connected   stats.Gauge       `stat:"connected_state" help:"1 while connected to the control plane."`
	Pending     stats.Gauge       `stat:"pending_requests" help:"Requests to the control plane that wait for the rate limit."`
	RateLimited stats.Counter     `stat:"rate_limit_enforced" help:"Requests to the control plane that had to wait for the rate limit."`
	Identifier  stats.TextReadout `stat:"identifier" help:"The control plane that answered last."`
}

// exporter copies what the sources of configuration count into the statistics.
type exporter struct {
	clusters, listeners typeCounters
	text                struct{ clusters, listeners versionText }
	clustersReload      reloadCounters
	took                struct{ clusters, listeners duration }
	plane               planeCounters
}

type duration struct {
	Duration stats.Histogram `stat:"update_duration" help:"How long an update took to apply, in milliseconds."`
}

type versionText struct {
	Text stats.TextReadout `stat:"version_text" help:"The version of the last accepted update."`
}

// Export shows the counters of the sources in st. They are read when someone looks.
func (d *Dynamic) Export(st *stats.Store) {
	e := &exporter{}
	cds, lds := st.Scope("cluster_manager").Child("cds"), st.Scope("listener_manager").Child("lds")
	cds.Bind(&e.clusters)
	cds.Bind(&e.text.clusters)
	cds.Bind(&e.clustersReload)
	lds.Bind(&e.listeners)
	lds.Bind(&e.text.listeners)
	d.m.took.clusters, d.m.took.listeners = &e.took.clusters.Duration, &e.took.listeners.Duration
	cds.Bind(&e.took.clusters)
	lds.Bind(&e.took.listeners)
	st.Scope("control_plane").Bind(&e.plane)
	st.BeforeRead(func() {
		clusters, listeners, plane := d.counted()
		e.clusters.take(clusters)
		e.listeners.take(listeners)
		raise(&e.clustersReload.Reload, clusters.Reloads)
		if clusters.VersionText != "" {
			e.text.clusters.Text.Set(clusters.VersionText)
		}
		if listeners.VersionText != "" {
			e.text.listeners.Text.Set(listeners.VersionText)
		}
		e.plane.take(plane)
	})
}

// counted gathers what the sources have counted: those of clusters, of listeners, and
// all connections to control planes together.
func (d *Dynamic) counted() (clusters, listeners ads.TypeStats, plane ads.Stats) {
	add := func(s ads.Stats) {
		plane.Connected = plane.Connected || s.Connected
		plane.RateLimited += s.RateLimited
		plane.Pending += s.Pending
		if s.Identifier != "" {
			plane.Identifier = s.Identifier
		}
		if t, ok := s.Types[ads.ClusterType]; ok {
			clusters = t
		}
		if t, ok := s.Types[ads.ListenerType]; ok {
			listeners = t
		}
	}
	if d.client != nil {
		add(d.client.Stats())
	}
	d.m.streams.each(func(typeURL string, c *ads.Client) {
		if typeURL != ads.SecretType {
			add(c.Stats())
		}
	})
	for _, f := range d.files {
		switch f.TypeURL() {
		case ads.ClusterType:
			clusters = f.Stats()
		case ads.ListenerType:
			listeners = f.Stats()
		}
	}
	return clusters, listeners, plane
}

func (c *planeCounters) take(s ads.Stats) {
	connected := int64(0)
	if s.Connected {
		connected = 1
	}
	c.Connected.Set(connected)
	c.Pending.Set(int64(s.Pending))
	raise(&c.RateLimited, s.RateLimited)
	c.Identifier.Set(s.Identifier)
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
