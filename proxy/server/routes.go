package server

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// routeSource is the route table of one RDS name. Connection managers hold it and take
// the newest table for each request.
type routeSource struct {
	route.Source
	answered bool // a table, or the end of the wait for one, has come
}

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
