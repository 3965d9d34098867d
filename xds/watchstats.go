package xds

import (
	"hash/fnv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// watchCounters are what Envoy counts for one subscription by name: a route table, an
// extension, a layer of the runtime.
type watchCounters struct {
	typeCounters
	VersionText stats.TextReadout `stat:"version_text" help:"The version of the last accepted update."`
	Duration    stats.Histogram   `stat:"update_duration" help:"How long an update took to apply, in milliseconds."`
}

// reloadCounters are those of what is rebuilt from an update.
type reloadCounters struct {
	Reload     stats.Counter `stat:"config_reload" help:"Updates that changed something."`
	ReloadTime stats.Gauge   `stat:"config_reload_time_ms" help:"When an update changed something last, in milliseconds since 1970."`
}

// emptyCounters are those of what may be empty.
type emptyCounters struct {
	Empty stats.Counter `stat:"update_empty" help:"Updates without a resource."`
}

// rotationCounters are those of what may name files.
type rotationCounters struct {
	Failed stats.Counter `stat:"key_rotation_failed" help:"Times that changed files of the secret could not be used."`
}

// watch is the statistics of one subscription.
type watch struct {
	watchCounters
	emptyCounters
	rotation rotationCounters // of secrets
	reload   reloadCounters
	prefix   string // stat_prefix of who asked first
	release  func()
}

// newWatch shows the counters of a subscription, and more beside them; nil without a store.
func newWatch(st *stats.Store, typeURL string, r ref, prefix string, more ...any) *watch {
	if st == nil {
		return nil
	}
	w := &watch{prefix: prefix}
	var top, sc *stats.Scope
	reloads := true
	switch typeURL {
	case ads.RouteType:
		top = st.Scope("http")
		sc = top.Tag("envoy_http_conn_manager_prefix", prefix).Child("rds").Tag("envoy_rds_route_config", r.name)
	case ads.VirtualHostType:
		top = st.Scope("http")
		sc = top.Tag("envoy_http_conn_manager_prefix", prefix).Child("rds").Child("vhds").Tag("envoy_rds_route_config", r.name)
	case ads.ScopedRouteType:
		top = st.Scope("http")
		sc = top.Tag("envoy_http_conn_manager_prefix", prefix).Child("scoped_rds").Tag("envoy_scoped_rds_config", r.name)
	case ads.ExtensionConfigType:
		top = st.Scope("extension_config_discovery")
		sc = top.Child(prefix).Child(r.name)
	case ads.RuntimeType:
		top = st.Scope("runtime")
		sc, reloads = top, false
	case ads.SecretType:
		top = st.Scope("sds")
		sc, reloads = top.Tag("envoy_xds_resource_name", r.name), false
		more = append(more, &w.rotation)
	default:
		return nil // endpoints are counted by their clusters
	}
	sc.Bind(&w.watchCounters)
	if typeURL != ads.SecretType {
		sc.Bind(&w.emptyCounters)
	}
	if reloads {
		sc.Bind(&w.reload)
	}
	for _, c := range more {
		sc.Bind(c)
	}
	w.release = top.Close
	w.Attempt.Inc()
	return w
}

// accepted counts an update with the resource in it.
func (w *watch) accepted(version string, changed bool, took time.Duration) {
	if w == nil {
		return
	}
	now := time.Now().UnixMilli()
	w.Attempt.Inc()
	w.Success.Inc()
	w.Time.Set(now)
	w.VersionText.Set(version)
	w.Version.Set(versionNumber(version))
	w.Duration.Record(uint64(took.Milliseconds()))
	if changed {
		w.reload.Reload.Inc()
		w.reload.ReloadTime.Set(now)
	}
}

func (w *watch) rejected() {
	if w != nil {
		w.Attempt.Inc()
		w.Rejected.Inc()
	}
}

func (w *watch) timedOut() {
	if w != nil {
		w.Timeout.Inc()
	}
}

// versionNumber is a number that changes with the version.
func versionNumber(version string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(version)) // a hash never fails
	return int64(h.Sum64() >> 1)    // gauges are signed here
}

// watches calls f with the counters of a name. The lock is held.
func (m *Manager) watches(typeURL, name string, f func(*watch)) {
	for _, l := range m.references() {
		if l.typeURL != typeURL {
			continue
		}
		for r, w := range l.watches {
			if r.name == name {
				f(w)
			}
		}
	}
}

// countUpdate counts an update in the statistics of each name in it. The lock is held.
func (m *Manager) countUpdate(u ads.Update, refused []ads.Refusal, took time.Duration) {
	if u.TypeURL == ads.ClusterType || u.TypeURL == ads.ListenerType || u.TypeURL == ads.EndpointType || u.TypeURL == ads.ScopedRouteType {
		return
	}
	bad := map[string]bool{}
	for _, r := range refused {
		bad[r.Name] = true
	}
	for i := range u.Changed {
		r := &u.Changed[i]
		m.watches(u.TypeURL, r.Name, func(w *watch) {
			if bad[r.Name] {
				w.rejected()
			} else {
				w.accepted(u.Version, true, took)
			}
		})
	}
	for _, n := range u.Same {
		m.watches(u.TypeURL, n, func(w *watch) { w.accepted(u.Version, false, took) })
	}
}
