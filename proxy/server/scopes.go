package server

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// scopeSource returns the routing scopes of an SRDS name, empty ones for a new name.
func (s *Server) scopeSource(name string) filter.ScopeSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scopesLocked(name)
}

func (s *Server) scopesLocked(name string) *route.ScopeSource {
	src := s.scopes[name]
	if src == nil {
		src = &route.ScopeSource{}
		s.scopes[name] = src
	}
	return src
}

// SetScopes replaces the routing scopes of an SRDS name for the requests to come. Scopes
// without a table of their own get that of their RDS name, which may come later.
func (s *Server) SetScopes(name string, list []route.Scope) error {
	for i := range list {
		if sc := &list[i]; sc.Table != nil {
			sc.Routes = sc.Table
		} else {
			sc.Routes = s.routeSource(sc.RDS)
		}
	}
	set, err := route.NewScopeSet(list)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopesLocked(name).Set(set)
	return nil
}
