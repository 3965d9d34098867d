package main

import (
	"log/slog"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// TestLastKnownGoodIsObeyed: the option reaches what keeps the configuration.
func TestLastKnownGoodIsObeyed(t *testing.T) {
	for dir, want := range map[string]bool{"": false, t.TempDir(): true} {
		b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: "{}"})
		if err != nil {
			t.Fatal(err)
		}
		quiet := slog.New(slog.DiscardHandler)
		p, err := newProxy(b, Options{LastKnownGood: dir}, func(string) *slog.Logger { return quiet }, false)
		if err != nil {
			t.Fatal(err)
		}
		kept := false
		p.stats.Each(func(m stats.Metric) { kept = kept || m.Name == "last_known_good.saves" })
		if kept != want {
			t.Errorf("--last-known-good %q: kept %t", dir, kept)
		}
		p.close()
	}
}
