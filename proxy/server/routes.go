package server

import (
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// routeSource is the route table of one RDS name. Connection managers hold it and take
// the newest table for each request.
type routeSource struct {
	table    atomic.Pointer[holder]
	answered bool // a table, or the end of the wait for one, has come
}

// holder wraps the interface, so that it can be stored atomically.
type holder struct{ table filter.RouteTable }

// Current implements filter.RouteSource.
func (r *routeSource) Current() filter.RouteTable {
	if h := r.table.Load(); h != nil {
		return h.table
	}
	return nil
}

func (r *routeSource) set(t filter.RouteTable) { r.table.Store(&holder{t}) }

// routeSource returns the source of an RDS name, an empty one for a new name.
func (s *Server) routeSource(name string) filter.RouteSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.routeSourceLocked(name)
}

func (s *Server) routeSourceLocked(name string) *routeSource {
	src := s.routes[name]
	if src == nil {
		src = &routeSource{}
		s.routes[name] = src
	}
	return src
}
