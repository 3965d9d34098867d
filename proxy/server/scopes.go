package server

import (
	"slices"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// scopes are the routing scopes of one key, for all who use them.
type scopes struct {
	route.ScopeSource
	answered bool     // they, or the end of the wait for them, have come
	now      []string // RDS names of those that are not on demand
	later    []string // of those that are
}

func (sc *scopes) names(rds string) bool {
	return slices.Contains(sc.now, rds) || slices.Contains(sc.later, rds)
}

// scopesKey is what a listener waits for that waits for scopes.
type scopesKey string

// name is scoped_routes.name, for people.
func (k scopesKey) name() string {
	name, _, _ := strings.Cut(string(k), "\x00")
	return name
}

// scopeSource returns the routing scopes of a key, empty ones for a new key.
func (s *Server) scopeSource(key string) filter.ScopeSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scopesLocked(key)
}

func (s *Server) scopesLocked(key string) *scopes {
	src := s.scopes[key]
	if src == nil {
		src = &scopes{}
		s.scopes[key] = src
	}
	return src
}

// missingScopes is what has to come before scopes can be used: they, or the tables that
// they name. The lock is held.
func (s *Server) missingScopes(key string) (missing []any) {
	sc := s.scopesLocked(key)
	if !sc.answered {
		return []any{scopesKey(key)}
	}
	for _, name := range sc.now {
		if !s.routeSourceLocked(name).answered {
			missing = append(missing, name)
		}
	}
	return missing
}

// SetScopes replaces routing scopes for the requests to come; nil tells that none will
// come. Scopes without a table of their own get that of their RDS name, which may come
// later. A listener that waits for the scopes waits for those tables, too.
func (s *Server) SetScopes(key string, list []route.Scope) error {
	s.mu.Lock()
	sc := s.scopes[key]
	if sc == nil { // they were on their way when their last listener went
		s.mu.Unlock()
		return nil
	}
	if list != nil {
		if err := s.replaceScopes(sc, list); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	sc.answered = true
	var ready []*waiting
	for _, w := range s.waiting {
		if len(w.missing) == 0 || !slices.Contains(w.needs.Scopes, key) {
			continue // it is being put in use, or does not care
		}
		w.missing = slices.DeleteFunc(w.missing, func(m any) bool { _, secret := m.(SecretKey); return !secret })
		w.missing = append(w.missing, s.missing(w.needs)...) // tables that the scopes before named need not come any more
		if len(w.missing) == 0 {
			ready = append(ready, w)
		}
	}
	s.mu.Unlock()
	s.useAll(ready)
	return nil
}

// replaceScopes puts a list in the place of the one before. The lock is held.
func (s *Server) replaceScopes(sc *scopes, list []route.Scope) error {
	var now, later []string
	for i := range list {
		one := &list[i]
		switch {
		case one.Table != nil:
			one.Routes = one.Table
			continue
		case one.OnDemand:
			later = append(later, one.RDS)
		default:
			now = append(now, one.RDS)
		}
		one.Routes = s.routeSourceLocked(one.RDS)
	}
	set, err := route.NewScopeSet(list)
	if err != nil {
		return err
	}
	before := slices.Concat(sc.now, sc.later)
	sc.now, sc.later = now, later
	sc.Set(set)
	s.letGoRoutes(slices.DeleteFunc(before, sc.names))
	return nil
}

// letGoScopes is letGo for scopes, and the tables that they name. The lock is held.
func (s *Server) letGoScopes(needs Needs) {
	for _, key := range needs.Scopes {
		sc := s.scopes[key]
		if sc == nil || s.scopesInUse(key) {
			continue
		}
		sc.answered = false
		s.letGoRoutes(slices.Concat(sc.now, sc.later))
		time.AfterFunc(s.drainTime, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.scopes[key] == sc && !s.scopesInUse(key) {
				delete(s.scopes, key)
			}
		})
	}
}

func (s *Server) scopesInUse(key string) bool {
	return s.needed(func(n Needs) bool { return slices.Contains(n.Scopes, key) })
}
