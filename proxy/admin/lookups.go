package admin

import (
	"fmt"
	"net/http"
)

// Envoy counts how often names of statistics are looked up while it works, which costs
// a lock each time. Here they are looked up when configuration is built, and nothing is
// there to be counted; the endpoints answer for the sake of scripts.

func (s *Server) serveLookups(w http.ResponseWriter, _ *http.Request) {
	if s.lookups.Load() {
		fmt.Fprint(w, "   Count Lookup\n\ntotal: 0\n")
		return
	}
	fmt.Fprint(w, "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n")
}

func (s *Server) trackLookups(on bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.lookups.Store(on)
		ok(w)
	}
}
