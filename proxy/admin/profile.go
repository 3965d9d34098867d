package admin

import (
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"runtime/metrics"
	rpprof "runtime/pprof"
	"strings"
	"sync"
)

// profiler is the CPU profile that /cpuprofiler writes to a file. There is one in a
// process.
type profiler struct {
	mu   sync.Mutex
	path string // admin.profile_path
	file *os.File
}

// set starts or stops the profile. Doing it twice is harmless.
func (p *profiler) set(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !on || p.file != nil {
		if on {
			return nil
		}
		return p.stop()
	}
	f, err := os.Create(p.path)
	if err != nil {
		return err
	}
	if err := rpprof.StartCPUProfile(f); err != nil {
		f.Close()
		return err
	}
	p.file = f
	return nil
}

func (p *profiler) stop() error {
	if p.file == nil {
		return nil
	}
	rpprof.StopCPUProfile()
	err := p.file.Close()
	p.file = nil
	return err
}

// enable reads ?enable=y or n, which Envoy's profilers take.
func enable(w http.ResponseWriter, r *http.Request) (on, ok bool) {
	ps := ParseParams(r.URL.RawQuery)
	v := ps.Get("enable")
	if len(ps) != 1 || v != "y" && v != "n" {
		fail(w, http.StatusBadRequest, "?enable=<y|n>")
		return false, false
	}
	return v == "y", true
}

func (s *Server) serveCPUProfiler(w http.ResponseWriter, r *http.Request) {
	on, valid := enable(w, r)
	if !valid {
		return
	}
	if err := s.profile.set(on); err != nil {
		s.cfg.Log.Warn("admin: cpuprofiler", "error", err)
		fail(w, http.StatusInternalServerError, "failure to start the profiler")
		return
	}
	ok(w)
}

// unsupported answers for what Envoy's allocator can do and Go's cannot.
func unsupported(what string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotImplemented, "The current build does not support "+what)
	}
}

func (s *Server) serveHeapDump(w http.ResponseWriter, r *http.Request) {
	w.Header().Del("Content-Type")
	pprof.Handler("heap").ServeHTTP(w, r)
}

// serveContention shows what the runtime knows of waiting for locks, if
// --enable-mutex-tracing was given.
func (s *Server) serveContention(w http.ResponseWriter, _ *http.Request) {
	if !s.cfg.MutexTracing {
		_, _ = w.Write([]byte("Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing.")) // the one who asked has gone
		return
	}
	records := make([]runtime.BlockProfileRecord, 1<<10)
	n, _ := runtime.MutexProfile(records)
	var count, cycles int64
	for _, rec := range records[:min(n, len(records))] {
		count += rec.Count
		cycles += rec.Cycles
	}
	wait := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(wait)
	writeJSON(w, struct {
		Count    decimal `json:"num_contentions"`
		Current  decimal `json:"current_wait_cycles"`
		Lifetime decimal `json:"lifetime_wait_cycles"`
	}{decimal(count), 0, decimal(max(float64(cycles), wait[0].Value.Float64()))})
}

func (s *Server) serveMalloc(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	writeJSON(w, struct {
		Alloc, TotalAlloc, Sys, Mallocs, Frees                       uint64
		HeapAlloc, HeapSys, HeapIdle, HeapInuse, HeapReleased        uint64
		StackInuse, StackSys, MSpanInuse, MCacheInuse, GCSys, NextGC uint64
		NumGC                                                        uint32
	}{
		m.Alloc, m.TotalAlloc, m.Sys, m.Mallocs, m.Frees, m.HeapAlloc, m.HeapSys, m.HeapIdle, m.HeapInuse, m.HeapReleased,
		m.StackInuse, m.StackSys, m.MSpanInuse, m.MCacheInuse, m.GCSys, m.NextGC, m.NumGC,
	})
}

func servePprof(w http.ResponseWriter, r *http.Request) {
	w.Header().Del("Content-Type") // the profiles say what they are
	switch strings.TrimPrefix(r.URL.Path, "/debug/pprof/") {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}
