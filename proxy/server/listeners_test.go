package server

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// A listener waits for all that it needs, whatever comes first, and whoever waits for all
// listeners is told when it is in use and no sooner.
func TestListenerWaitsForAllItNeeds(t *testing.T) {
	key := SecretKey{Number: 7, Name: "pair"}
	scopes := func(s *Server) {
		if err := s.SetScopes("sc\x00", []route.Scope{{Name: "one", Key: "k", RDS: "r"}}); err != nil {
			t.Error(err)
		}
	}
	steps := map[string]func(*Server){
		"scopes": scopes,
		"secret": func(s *Server) { s.SecretArrived(key) },
		"table":  func(s *Server) { s.SetRoutes("r", nil) },
	}
	for _, order := range [][]string{{"scopes", "secret", "table"}, {"secret", "scopes", "table"}, {"scopes", "table", "secret"}, {"scopes", "scopes", "table", "secret"}} {
		log := slog.New(slog.DiscardHandler)
		s := New(Options{Stats: stats.NewStore(), Log: func(string) *slog.Logger { return log }, DrainTime: time.Second})
		defer s.Close()
		spec := &l4.Spec{Name: "l", Addresses: []l4.Address{{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}}}}
		if err := s.SetListener(spec, Needs{Scopes: []string{"sc\x00"}, Secrets: []SecretKey{key}}); err != nil {
			t.Fatal(err)
		}
		inUse := -1
		s.WhenListening(func() { inUse = len(s.Listeners.Listeners()) })
		for i, step := range order {
			if inUse != -1 || len(s.Waiting()) != 1 || !s.ListenerWarming("l") {
				t.Errorf("%v: after %d steps: waits for %v, in use %d", order, i, s.Waiting(), inUse)
			}
			steps[step](s)
		}
		if inUse != 1 || len(s.Waiting()) != 0 || s.ListenerWarming("l") {
			t.Errorf("%v: in the end: waits for %v, in use %d", order, s.Waiting(), inUse)
		}
	}
}
