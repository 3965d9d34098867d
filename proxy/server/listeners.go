package server

import (
	"slices"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/l4"
)

// Needs is what has to come before a listener can be used.
type Needs struct {
	Routes     []string              // RDS names
	Scopes     []string              // keys of filter.Parser.SRDS
	Extensions []filter.ExtensionKey // ECDS; those in Later have a default to begin with
	Later      []filter.ExtensionKey
	Secrets    []SecretKey // those that have not come; see SecretArrived
}

// SecretKey is a secret that is waited for. The number alone tells it apart; the name is
// for people.
type SecretKey struct {
	Number uint64
	Name   string
}

// waiting is a listener whose needs have not all arrived. The version before, if there
// is one, is in use meanwhile.
type waiting struct {
	spec     *l4.Spec
	prepared *l4.Prepared
	needs    Needs
	missing  []any // an RDS name, an ExtensionKey, a scopesKey or a SecretKey each
}

// came notes that something has arrived, or will not, and returns the listeners that
// waited for nothing else: they go on counting as waiting until useAll has used them. The
// lock is held.
func (s *Server) came(what any) (ready []*waiting) {
	for _, w := range s.waiting {
		had := len(w.missing)
		w.missing = slices.DeleteFunc(w.missing, func(m any) bool { return m == what })
		if len(w.missing) == 0 && had > 0 {
			ready = append(ready, w)
		}
	}
	return ready
}

// useAll puts listeners in use that were waiting. What their versions before needed goes
// when all are in use: one may need what another gives up.
func (s *Server) useAll(ready []*waiting) {
	var before []Needs
	defer func() {
		s.mu.Lock()
		for _, n := range before {
			s.letGo(n)
		}
		s.mu.Unlock()
		s.settle()
	}()
	for _, w := range ready {
		needs, err := s.swap(w)
		before = append(before, needs)
		if err != nil {
			s.log.Error("listener cannot be used", "name", w.spec.Name, "error", err)
			s.fail(w, err)
		}
		s.mu.Lock()
		if s.waiting[w.spec.Name] == w {
			delete(s.waiting, w.spec.Name)
		}
		s.mu.Unlock()
	}
}

// fail tells that a listener cannot be put in use that was taken.
func (s *Server) fail(w *waiting, err error) {
	if s.failed == nil {
		return
	}
	name := w.spec.Name
	s.mu.Lock()
	s.failing[name] = w
	s.mu.Unlock()
	go func() {
		s.failed(w.spec, err)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failing[name] == w {
			delete(s.failing, name)
		}
	}()
}

// SetListener implements xds.Engine. What can fail fails now, also where the listener
// waits for what it needs: later there is nobody to tell.
func (s *Server) SetListener(spec *l4.Spec, needs Needs) error {
	prepared, err := s.Listeners.Prepare(spec)
	if err != nil {
		return err
	}
	s.mu.Lock()
	w := &waiting{spec: spec, prepared: prepared, needs: needs}
	w.missing = s.missing(needs)
	delete(s.failing, spec.Name)
	for _, key := range needs.Secrets {
		w.missing = append(w.missing, key)
	}
	if before := s.waiting[spec.Name]; before != nil {
		delete(s.waiting, spec.Name)
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.letGo(before.needs)
		}()
	}
	if len(w.missing) > 0 {
		s.waiting[spec.Name] = w
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.use(w)
}

// missing is what of the needs of a listener has not come. The lock is held.
func (s *Server) missing(needs Needs) (missing []any) {
	for _, key := range needs.Extensions {
		if !s.extensionLocked(key).answered {
			missing = append(missing, key)
		}
	}
	for _, key := range needs.Later {
		s.extensionLocked(key)
	}
	for _, name := range needs.Routes {
		if src := s.routeSourceLocked(name); !src.answered {
			missing = append(missing, name)
		}
	}
	for _, key := range needs.Scopes {
		missing = append(missing, s.missingScopes(key)...)
	}
	return missing
}

// ListenerWarming implements xds.Engine.
func (s *Server) ListenerWarming(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[name] != nil || s.failing[name] != nil
}

// Waiting returns the listeners whose newest version waits for route tables,
// configurations of filters or secrets, and the names of those.
func (s *Server) Waiting() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string][]string, len(s.waiting))
	for name, w := range s.waiting {
		for _, m := range w.missing {
			switch m := m.(type) {
			case filter.ExtensionKey:
				out[name] = append(out[name], m.Name)
			case scopesKey:
				out[name] = append(out[name], m.name())
			case string:
				out[name] = append(out[name], m)
			case SecretKey:
				out[name] = append(out[name], m.Name)
			}
		}
	}
	return out
}

// use puts a listener in use whose route tables are there.
func (s *Server) use(w *waiting) error {
	before, err := s.swap(w)
	s.mu.Lock()
	s.letGo(before)
	s.mu.Unlock()
	return err
}

// swap is use without letting go of what is not needed any more, which it returns: the
// needs of the version before, or those of w if it fails.
func (s *Server) swap(w *waiting) (before Needs, err error) {
	if err := s.Listeners.Use(w.prepared); err != nil {
		return w.needs, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.uses[w.spec.Name]
	s.uses[w.spec.Name] = w.needs
	return before, nil
}

// RemoveListener implements xds.Engine.
func (s *Server) RemoveListener(name string) {
	s.Listeners.Remove(name)
	s.mu.Lock()
	w := s.waiting[name]
	delete(s.waiting, name)
	delete(s.failing, name)
	before := s.uses[name]
	delete(s.uses, name)
	s.letGo(before)
	if w != nil {
		s.letGo(w.needs)
	}
	s.mu.Unlock()
	s.settle()
}

// letGo drops route tables that no listener uses any more, once connections that
// were accepted before have had time to find their chain: a chain is built, and asks
// for its routes, when the first connection needs it. The lock is held.
func (s *Server) letGo(needs Needs) {
	s.letGoExtensions(needs)
	s.letGoScopes(needs)
	s.letGoRoutes(needs.Routes)
}

func (s *Server) letGoRoutes(names []string) {
	for _, name := range names {
		src := s.routes[name]
		if src == nil || s.inUse(name) {
			continue
		}
		src.answered = false // who needs it again waits for the table of then
		time.AfterFunc(s.drainTime, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.routes[name] == src && !s.inUse(name) {
				delete(s.routes, name)
			}
		})
	}
}

func (s *Server) inUse(routes string) bool {
	return s.needed(func(n Needs) bool {
		return slices.Contains(n.Routes, routes) ||
			slices.ContainsFunc(n.Scopes, func(key string) bool { return s.scopesLocked(key).names(routes) })
	})
}

// needed reports whether the needs of a listener are such. The lock is held.
func (s *Server) needed(such func(Needs) bool) bool {
	for _, n := range s.uses {
		if such(n) {
			return true
		}
	}
	for _, w := range s.waiting {
		if such(w.needs) {
			return true
		}
	}
	return false
}

// SetRoutes implements xds.Engine.
func (s *Server) SetRoutes(name string, table filter.RouteTable) {
	s.mu.Lock()
	src := s.routes[name]
	if src == nil { // it was on its way when its last listener went
		s.mu.Unlock()
		return
	}
	src.answered = true
	if table != nil {
		src.Set(table)
	}
	ready := s.came(name)
	s.mu.Unlock()
	s.scopesArrived()
	s.useAll(ready)
}

// SecretArrived implements xds.Engine.
func (s *Server) SecretArrived(key SecretKey) {
	s.Clusters.Arrived(key.Number)
	s.mu.Lock()
	ready := s.came(key)
	s.mu.Unlock()
	s.useAll(ready)
}

// OnListenerError implements xds.Engine.
func (s *Server) OnListenerError(f func(spec *l4.Spec, err error)) { s.failed = f }

// WhenListening implements xds.Engine.
func (s *Server) WhenListening(f func()) {
	s.mu.Lock()
	s.settled = append(s.settled, f)
	s.mu.Unlock()
	s.settle()
}

// settle runs what waits for all listeners.
func (s *Server) settle() {
	s.mu.Lock()
	var todo []func()
	if len(s.waiting) == 0 {
		todo, s.settled = s.settled, nil
	}
	s.mu.Unlock()
	for _, f := range todo {
		f()
	}
}
