package translate

import (
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

func bootstrapOf(t *testing.T, text string) (*config.Process, []string, error) {
	t.Helper()
	b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: text})
	if err != nil {
		return nil, nil, err
	}
	return Process(b)
}

func TestWatchdogsAndTimes(t *testing.T) {
	c, _, err := bootstrapOf(t, `
watchdogs:
  main_thread_watchdog: {miss_timeout: 0.1s, kill_timeout: 5s, max_kill_timeout_jitter: 1s}
  worker_watchdog: {multikill_timeout: 3s, multikill_threshold: {value: 50}}
stats_flush_on_admin: true
stats_eviction_interval: 10s`)
	if err != nil {
		t.Fatal(err)
	}
	m, w := c.Watchdogs.Main, c.Watchdogs.Workers
	if m.Miss != 100*time.Millisecond || m.MegaMiss != time.Second || m.Kill < 5*time.Second || m.Kill >= 6*time.Second || w.Miss != 200*time.Millisecond || w.MultiKill != 3*time.Second || w.Kill != 0 {
		t.Errorf("%+v", c.Watchdogs)
	}
	if !c.FlushOnAdmin || c.StatsEviction != 10*time.Second {
		t.Errorf("%t, %v", c.FlushOnAdmin, c.StatsEviction)
	}
	c, warnings, err := bootstrapOf(t, `{watchdog: {megamiss_timeout: 2s, actions: [{event: KILL}]}}`)
	if err != nil || c.Watchdogs.Workers.MegaMiss != 2*time.Second || c.Watchdogs.Main != c.Watchdogs.Workers || len(warnings) != 1 {
		t.Errorf("%+v, %v, %v", c.Watchdogs, warnings, err)
	}
	for text, want := range map[string]string{
		"{stats_flush_on_admin: true, stats_flush_interval: 1s}":              "stats_flush_on_admin",
		"{stats_flush_on_admin: false}":                                       "stats_flush_on_admin",
		"{stats_eviction_interval: 7s}":                                       "stats_eviction_interval",
		"{watchdog: {}, watchdogs: {}}":                                       "watchdog",
		"{watchdogs: {main_thread_watchdog: {miss_timeout: -1s}}}":            "watchdogs.main_thread_watchdog.miss_timeout",
		"{watchdogs: {worker_watchdog: {multikill_threshold: {value: 101}}}}": "watchdogs.worker_watchdog.multikill_threshold",
	} {
		if _, _, err := bootstrapOf(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
