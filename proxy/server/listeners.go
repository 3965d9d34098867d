package server

import (
	"slices"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/l4"
)

// waiting is a listener whose route tables have not all arrived. The version before,
// if there is one, is in use meanwhile.
type waiting struct {
	spec     *l4.Spec
	prepared *l4.Prepared
	routes   []string
	missing  []string
}

// SetListener implements xds.Engine. What can fail fails now, also where the listener
// waits for routes: later there is nobody to tell.
func (s *Server) SetListener(spec *l4.Spec, routes []string) error {
	prepared, err := s.Listeners.Prepare(spec)
	if err != nil {
		return err
	}
	s.mu.Lock()
	w := &waiting{spec: spec, prepared: prepared, routes: routes}
	for _, name := range routes {
		if src := s.routeSourceLocked(name); !src.answered {
			w.missing = append(w.missing, name)
		}
	}
	delete(s.waiting, spec.Name)
	if len(w.missing) > 0 {
		s.waiting[spec.Name] = w
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.use(w)
}

// Waiting returns the listeners whose newest version waits for route tables, and their
// names.
func (s *Server) Waiting() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string][]string, len(s.waiting))
	for name, w := range s.waiting {
		out[name] = slices.Clone(w.missing)
	}
	return out
}

// use puts a listener in use whose route tables are there.
func (s *Server) use(w *waiting) error {
	if err := s.Listeners.Use(w.prepared); err != nil {
		return err
	}
	s.mu.Lock()
	before := s.uses[w.spec.Name]
	s.uses[w.spec.Name] = w.routes
	s.letGo(before)
	s.mu.Unlock()
	return nil
}

// RemoveListener implements xds.Engine.
func (s *Server) RemoveListener(name string) {
	s.Listeners.Remove(name)
	s.mu.Lock()
	delete(s.waiting, name)
	before := s.uses[name]
	delete(s.uses, name)
	s.letGo(before)
	s.mu.Unlock()
	s.settle()
}

// letGo drops route tables that no listener uses any more, once connections that
// were accepted before have had time to find their chain: a chain is built, and asks
// for its routes, when the first connection needs it. The lock is held.
func (s *Server) letGo(names []string) {
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
	for _, names := range s.uses {
		if slices.Contains(names, routes) {
			return true
		}
	}
	for _, w := range s.waiting {
		if slices.Contains(w.routes, routes) {
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
	var ready []*waiting
	for n, w := range s.waiting {
		w.missing = slices.DeleteFunc(w.missing, func(m string) bool { return m == name })
		if len(w.missing) == 0 {
			ready = append(ready, w)
			delete(s.waiting, n)
		}
	}
	s.mu.Unlock()
	for _, w := range ready {
		if err := s.use(w); err != nil {
			s.log.Error("listener cannot be used", "name", w.spec.Name, "error", err)
			if s.failed != nil {
				go s.failed(w.spec.Name, err)
			}
		}
	}
	s.settle()
}

// OnListenerError implements xds.Engine.
func (s *Server) OnListenerError(f func(name string, err error)) { s.failed = f }

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
