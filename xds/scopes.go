package xds

import (
	"maps"
	"slices"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// scopeCounters are what of http.*.scoped_rds.* is about the scopes themselves.
type scopeCounters struct {
	All      stats.Gauge `stat:"all_scopes" help:"Routing scopes."`
	OnDemand stats.Gauge `stat:"on_demand_scopes" help:"Routing scopes whose tables are asked for when a request needs them."`
	Active   stats.Gauge `stat:"active_scopes" help:"Routing scopes whose tables are asked for."`
}

// scopeSet is what one source says of scopes: ADS, a file or a stream.
type scopeSet struct {
	byName   map[string]route.Scope
	inUse    Inventory
	answered bool
	late     bool // nobody waits for them any more
	version  string
	updated  time.Time
}

// scopedRoutes are the scopes of one key, as listeners use them.
type scopedRoutes struct {
	from     filter.ScopesFrom
	source   ref // of the scopes
	users    []string
	routes   []ref           // tables that are subscribed
	asked    map[string]bool // RDS names that were asked for on demand
	counters scopeCounters
	watch    *watch
}

// scopesOverADS is where all scopes come from that name ADS.
func scopesOverADS() ref { return ref{name: ads.Wildcard} }

// sourceHandler is the manager for one source of scopes or secrets: unlike other
// resources, those that two sources call the same are not the same.
type sourceHandler struct {
	m      *Manager
	source ref
}

// Apply implements ads.Handler.
func (h sourceHandler) Apply(u ads.Update) []ads.Refusal { return h.m.applyFrom(u, h.source) }

// FetchTimedOut implements ads.Handler.
func (h sourceHandler) FetchTimedOut(typeURL, name string) {
	h.m.log.Warn("initial_fetch_timeout", "type", ads.ShortType(typeURL), "name", name)
	if typeURL == ads.SecretType {
		h.m.secretTimedOut(h.source, name)
		return
	}
	h.m.scopesTimedOut(h.source)
}

// handlerFor returns who takes resources from a source.
func (m *Manager) handlerFor(typeURL string, source ref) ads.Handler {
	if typeURL == ads.ScopedRouteType || typeURL == ads.SecretType {
		return sourceHandler{m, source}
	}
	return m
}

// useScopes notes that a listener refers to scopes. The lock is held.
func (m *Manager) useScopes(key string, from filter.ScopesFrom, listener string) {
	s := m.scoped[key]
	if s == nil {
		s = &scopedRoutes{from: from, source: refTo(ads.Wildcard, from.Scopes), asked: map[string]bool{}}
		s.watch = newWatch(m.stats, ads.ScopedRouteType, ref{name: from.Name}, from.Scopes.StatPrefix, &s.counters)
		m.scoped[key] = s
		if s.source == scopesOverADS() && len(m.scopes.users[s.source]) == 0 {
			// A server that was asked for all scopes can't be told that they are not needed
			// any more (whole state), or does not send them again later: this subscription stays.
			m.use(m.scopes, s.source, forEver, from.Scopes.Timeout, "")
		}
		m.use(m.scopes, s.source, key, from.Scopes.Timeout, "")
		m.reuseScopes(key, s)
	}
	s.users = append(s.users, listener)
}

// forEver is a user of scopes that never goes; no key is called so.
const forEver = ""

// reuseScopes gives what came before to a key that is new. The lock is held.
func (m *Manager) reuseScopes(key string, s *scopedRoutes) {
	set := m.scopeSets[s.source]
	if set == nil {
		return
	}
	if s.source == scopesOverADS() && m.inUse.types[ads.ScopedRouteType] == nil {
		m.inUse.types[ads.ScopedRouteType] = maps.Clone(set.inUse.types[ads.ScopedRouteType])
	}
	if set.answered {
		m.putScopes(key, s)
	} else if set.late {
		_ = m.engine.SetScopes(key, nil) // nothing in it that could be wrong
	}
}

// usesScopes reports whether any listener refers to scopes of a source. The lock is held.
func (m *Manager) usesScopes(source ref) bool {
	for _, s := range m.scoped {
		if s.source == source {
			return true
		}
	}
	return false
}

// dropScopes is the end of a listener's interest in scopes. The lock is held.
func (m *Manager) dropScopes(key, listener string) {
	s := m.scoped[key]
	s.users = slices.DeleteFunc(s.users, func(u string) bool { return u == listener })
	if len(s.users) > 0 {
		return
	}
	delete(m.scoped, key)
	for _, r := range s.routes {
		m.drop(m.routes, r, scopesUser(key))
	}
	if s.watch != nil {
		s.watch.release()
	}
	m.drop(m.scopes, s.source, key)
	if len(m.scopes.users[s.source]) == 0 {
		delete(m.scopeSets, s.source)
	}
	if s.source == scopesOverADS() && !m.usesScopes(s.source) {
		delete(m.inUse.types, ads.ScopedRouteType)
	}
}

// scopesUser is the user of the tables that scopes name; no listener has such a name.
func scopesUser(key string) string { return "\x00scopes\x00" + key }

// scopeSet returns what a source said of scopes. The lock is held.
func (m *Manager) scopeSet(source ref) *scopeSet {
	set := m.scopeSets[source]
	if set == nil {
		set = &scopeSet{byName: map[string]route.Scope{}, inUse: Inventory{types: map[string]map[string]*Record{}}}
		m.scopeSets[source] = set
	}
	return set
}

// applyScopes takes an update as a whole, since keys may move from one scope to another.
// A scope whose key another one has is refused. The lock is held.
func (m *Manager) applyScopes(u *ads.Update, source ref) (refused []ads.Refusal) {
	if len(m.scopes.users[source]) == 0 {
		return nil // they were on their way when their last user went
	}
	set := m.scopeSet(source)
	set.answered, set.version, set.updated = true, u.Version, time.Now()
	next := maps.Clone(set.byName)
	for _, name := range u.Removed {
		delete(next, name)
		set.inUse.forget(u.TypeURL, name)
	}
	parsed := make([]route.Scope, len(u.Changed))
	errs := make([]error, len(u.Changed))
	for i := range u.Changed {
		r := &u.Changed[i]
		p := m.parser()
		if parsed[i], errs[i] = fromproto.Scope(r.Body.GetValue(), p); errs[i] == nil {
			m.warn("scope", r.Name, p.Warnings)
			delete(next, r.Name)
		}
	}
	for i := range u.Changed {
		r := &u.Changed[i]
		if errs[i] == nil {
			errs[i] = addScope(next, r.Name, parsed[i])
		}
		if errs[i] != nil {
			refused = append(refused, ads.Refusal{Name: r.Name, Err: errs[i]})
			if before, had := set.byName[r.Name]; had && !slices.Contains(u.Removed, r.Name) {
				_ = addScope(next, r.Name, before) // unless its key has gone to another
			}
		}
		set.inUse.note(u.TypeURL, r, errs[i])
	}
	set.byName = next
	if source == scopesOverADS() && m.usesScopes(source) {
		m.keepScopes(u, refused)
	}
	for key, s := range m.scoped {
		if s.source == source {
			m.putScopes(key, s)
		}
	}
	return refused
}

// keepScopes notes scopes among what is in effect. The lock is held.
func (m *Manager) keepScopes(u *ads.Update, refused []ads.Refusal) {
	bad := map[string]error{}
	for _, r := range refused {
		bad[r.Name] = r.Err
	}
	for i := range u.Changed {
		m.inUse.note(u.TypeURL, &u.Changed[i], bad[u.Changed[i].Name])
	}
	for _, name := range u.Removed {
		m.inUse.forget(u.TypeURL, name)
	}
}

// addScope adds a scope unless its key is taken.
func addScope(to map[string]route.Scope, name string, s route.Scope) error {
	all := make([]route.Scope, 0, len(to)+1)
	for _, n := range slices.Sorted(maps.Keys(to)) {
		all = append(all, to[n])
	}
	if _, err := route.NewScopeSet(append(all, s)); err != nil {
		return filter.At("key", err)
	}
	to[name] = s
	return nil
}

// putScopes gives the engine the scopes of a key as they are now, and keeps the
// subscriptions in step with the tables that they name. The lock is held.
func (m *Manager) putScopes(key string, s *scopedRoutes) {
	list := []route.Scope{}
	var now []ref
	onDemand := 0
	set := m.scopeSets[s.source]
	named := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(set.byName)) {
		sc := set.byName[name]
		list = append(list, sc)
		named[sc.RDS] = true
		if sc.OnDemand {
			onDemand++
		}
		r := refTo(sc.RDS, s.from.Routes)
		if sc.RDS != "" && (!sc.OnDemand || s.asked[sc.RDS]) && !slices.Contains(now, r) {
			now = append(now, r)
		}
	}
	maps.DeleteFunc(s.asked, func(rds string, _ bool) bool { return !named[rds] })
	if err := m.engine.SetScopes(key, list); err != nil {
		m.log.Error("scopes cannot be used", "name", s.from.Name, "error", err) // their keys were compared before
		return
	}
	before := s.routes
	s.routes = now
	for _, r := range now {
		if !slices.Contains(before, r) {
			m.use(m.routes, r, scopesUser(key), s.from.Routes.Timeout, s.from.Routes.StatPrefix)
		}
	}
	for _, r := range before {
		if !slices.Contains(now, r) {
			m.drop(m.routes, r, scopesUser(key))
		}
	}
	s.counters.All.Set(int64(len(list)))
	s.counters.OnDemand.Set(int64(onDemand))
	s.counters.Active.Set(int64(len(list) - onDemand + len(s.asked)))
}

// scopesTimedOut ends the wait for the scopes of a source.
func (m *Manager) scopesTimedOut(source ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.scopes.users[source]) == 0 {
		return
	}
	m.scopeSet(source).late = true
	for key, s := range m.scoped {
		if s.source == source {
			s.watch.timedOut()
			_ = m.engine.SetScopes(key, nil) // nothing in it that could be wrong
		}
	}
	m.settle()
}

// countScopes counts an update in the statistics of all who use its source. The lock is
// held.
func (m *Manager) countScopes(u *ads.Update, source ref, refused bool, took time.Duration) {
	for _, s := range m.scoped {
		switch {
		case s.source != source || s.watch == nil:
		case refused:
			s.watch.rejected()
		default:
			s.watch.accepted(u.Version, len(u.Changed)+len(u.Removed) > 0, took)
			if len(u.Changed)+len(u.Removed)+len(u.Same) == 0 {
				s.watch.Empty.Inc()
			}
		}
	}
}
