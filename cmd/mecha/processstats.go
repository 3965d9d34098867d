package main

import (
	"runtime"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/admin"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// processStats are server.*, brought up to date when someone reads them.
type processStats struct {
	neverStats // of no size; first, where it adds none

	State         stats.Gauge     `stat:"state" help:"0 live, 1 draining, 2 before and 3 during initialization."`
	Live          stats.Gauge     `stat:"live" help:"1 while the server is live."`
	Uptime        stats.Gauge     `stat:"uptime" help:"Seconds since the start."`
	Concurrency   stats.Gauge     `stat:"concurrency" help:"Processors in use."`
	Connections   stats.Gauge     `stat:"total_connections" help:"Connections of all listeners."`
	Allocated     stats.Gauge     `stat:"memory_allocated" help:"Bytes of live objects on the heap."`
	Heap          stats.Gauge     `stat:"memory_heap_size" help:"Bytes that the heap has taken from the system."`
	Physical      stats.Gauge     `stat:"memory_physical_size" help:"Bytes that the process takes from the system and has not given back."`
	Goroutines    stats.Gauge     `stat:"goroutines" help:"Goroutines."`
	Version       stats.Gauge     `stat:"version" help:"The first three bytes of the revision as a number."`
	CertDays      stats.Gauge     `stat:"days_until_first_cert_expiring" help:"Days until the next certificate expires, 4294967295 without certificates."`
	OCSPSeconds   stats.Gauge     `stat:"seconds_until_first_ocsp_response_expiring" help:"Seconds until the next OCSP response expires, 0 without any."`
	StaticUnknown stats.Counter   `stat:"static_unknown_fields" help:"Fields of the bootstrap that no schema knows."`
	Init          stats.Histogram `stat:"initialization_time_ms" help:"How long the first configuration took."`
}

// neverStats are names of server for what does not happen in this process.
type neverStats struct {
	FIPS          stats.NeverGauge `stat:"compilation_settings.fips_mode" help:"0: not built for FIPS 140."`
	Epoch         stats.NeverGauge `stat:"hot_restart_epoch" help:"0: there is no hot restart."`
	Parent        stats.NeverGauge `stat:"parent_connections" help:"0: there is no hot restart."`
	Lookups       stats.NeverGauge `stat:"stats_recent_lookups" help:"0: names of statistics are looked up when configuration is built."`
	Assertions    stats.Never      `stat:"debug_assertion_failures" help:"0: a release has no assertions."`
	Bugs          stats.Never      `stat:"envoy_bug_failures" help:"0: of Envoy's own code."`
	Notifications stats.Never      `stat:"envoy_notifications" help:"0: of Envoy's own code."`
	Dropped       stats.Never      `stat:"dropped_stat_flushes" help:"0: statistics are not merged from threads."`
}

func (s *processStats) export(st *stats.Store, c *console) {
	server := st.Scope("server")
	server.Bind(s)
	st.BeforeRead(func() {
		state := map[admin.State]int64{admin.Live: 0, admin.Draining: 1, admin.PreInitializing: 2, admin.Initializing: 3}[c.State()]
		s.State.Set(state)
		live := int64(0)
		if state == 0 {
			live = 1
		}
		s.Live.Set(live)
		s.Uptime.Set(int64(time.Since(c.start).Seconds()))
		s.Concurrency.Set(int64(runtime.GOMAXPROCS(0)))
		total := int64(0)
		for _, l := range c.p.server.Listeners.Listeners() {
			total += l.Active()
		}
		s.Connections.Set(total)
		s.expiry(c.Certificates(), time.Now())
		s.Version.Set(revisionNumber())
		s.memory()
	})
}

// noCertificate is what days_until_first_cert_expiring shows without certificates.
const noCertificate = 1<<32 - 1

// expiry tells when the first of the certificates and OCSP responses in use expires.
func (s *processStats) expiry(contexts []secret.InUse, now time.Time) {
	var certificate, staple time.Time
	for _, u := range contexts {
		c, o := u.Expiry()
		certificate, staple = secret.First(certificate, c), secret.First(staple, o)
	}
	days, seconds := int64(noCertificate), int64(0)
	if !certificate.IsZero() {
		days = secret.DaysUntil(certificate, now)
	}
	if !staple.IsZero() {
		seconds = max(staple.Unix()-now.Unix(), 0)
	}
	s.CertDays.Set(days)
	s.OCSPSeconds.Set(seconds)
}

// revisionNumber is what Envoy makes of its revision for server.version.
func revisionNumber() int64 {
	n, err := strconv.ParseInt(buildVersion()[:6], 16, 64)
	if err != nil {
		return 0
	}
	return n
}

// memory reads what the runtime knows without stopping the program.
func (s *processStats) memory() {
	sample := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/sched/goroutines:goroutines"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(sample)
	s.Allocated.Set(int64(sample[0].Value.Uint64()))
	s.Heap.Set(int64(sample[1].Value.Uint64()))
	s.Goroutines.Set(int64(sample[2].Value.Uint64()))
	s.Physical.Set(int64(sample[1].Value.Uint64() - sample[3].Value.Uint64()))
}
