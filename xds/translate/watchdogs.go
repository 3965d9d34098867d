package translate

import (
	"errors"
	"math/rand/v2"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// processWatchdogs reads watchdogs, or the older watchdog, which is for both.
func processWatchdogs(pb *bootstrapv3.Bootstrap, c *config.Process, p *filter.Parser) (err error) {
	old := pb.GetWatchdog() //nolint:staticcheck // deprecated, still sent
	switch {
	case old != nil && pb.Watchdogs != nil:
		return filter.At("watchdog", errors.New("cannot be set together with watchdogs"))
	case old != nil:
		c.Watchdogs = &config.Watchdogs{}
		if c.Watchdogs.Main, err = watchdog(old, p); err != nil {
			return filter.At("watchdog", err)
		}
		c.Watchdogs.Workers = c.Watchdogs.Main
	case pb.Watchdogs != nil:
		c.Watchdogs = &config.Watchdogs{}
		if c.Watchdogs.Main, err = watchdog(pb.Watchdogs.MainThreadWatchdog, p); err != nil {
			return filter.At("watchdogs.main_thread_watchdog", err)
		}
		if c.Watchdogs.Workers, err = watchdog(pb.Watchdogs.WorkerWatchdog, p); err != nil {
			return filter.At("watchdogs.worker_watchdog", err)
		}
	}
	return nil
}

func watchdog(pb *bootstrapv3.Watchdog, p *filter.Parser) (w config.Watchdog, err error) {
	w = config.Watchdog{Miss: 200 * time.Millisecond, MegaMiss: time.Second}
	if pb == nil {
		return w, nil
	}
	err = fromproto.Check(pb, p, fromproto.Fields{
		Used: []string{
			"miss_timeout", "megamiss_timeout", "kill_timeout", "max_kill_timeout_jitter", "multikill_timeout",
			"multikill_threshold", // of two that are watched, it is always both
		},
		Ignored: []string{"actions"}, // extensions of Envoy's
	})
	if err != nil {
		return w, err
	}
	jitter := time.Duration(0)
	for _, d := range []struct {
		path string
		pb   *durationpb.Duration
		into *time.Duration
	}{
		{"miss_timeout", pb.MissTimeout, &w.Miss}, {"megamiss_timeout", pb.MegamissTimeout, &w.MegaMiss},
		{"kill_timeout", pb.KillTimeout, &w.Kill}, {"max_kill_timeout_jitter", pb.MaxKillTimeoutJitter, &jitter},
		{"multikill_timeout", pb.MultikillTimeout, &w.MultiKill},
	} {
		if *d.into, err = fromproto.Duration(d.pb, *d.into); err != nil {
			return w, filter.At(d.path, err)
		}
	}
	if v := pb.MultikillThreshold; v != nil && !(v.Value >= 0 && v.Value <= 100) {
		return w, filter.At("multikill_threshold", errors.New("must be 0 to 100"))
	}
	if w.Kill > 0 && jitter > 0 {
		w.Kill += rand.N(jitter)
	}
	return w, nil
}
