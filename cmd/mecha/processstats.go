package main

import (
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/mecha-mesh/mecha/proxy/admin"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// processStats are server.*, brought up to date when someone reads them.
type processStats struct {
	State       stats.Gauge `stat:"state" help:"0 live, 1 draining, 2 before and 3 during initialization."`
	Live        stats.Gauge `stat:"live" help:"1 while the server is live."`
	Uptime      stats.Gauge `stat:"uptime" help:"Seconds since the start."`
	Concurrency stats.Gauge `stat:"concurrency" help:"Processors in use."`
	Connections stats.Gauge `stat:"total_connections" help:"Connections of all listeners."`
	Allocated   stats.Gauge `stat:"memory_allocated" help:"Bytes of live objects on the heap."`
	Heap        stats.Gauge `stat:"memory_heap_size" help:"Bytes that the heap has taken from the system."`
	Goroutines  stats.Gauge `stat:"goroutines" help:"Goroutines."`
}

func (s *processStats) export(st *stats.Store, c *console) {
	st.Scope("server").Bind(s)
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
		s.memory()
	})
}

// memory reads what the runtime knows without stopping the program.
func (s *processStats) memory() {
	sample := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(sample)
	s.Allocated.Set(int64(sample[0].Value.Uint64()))
	s.Heap.Set(int64(sample[1].Value.Uint64()))
	s.Goroutines.Set(int64(sample[2].Value.Uint64()))
}
