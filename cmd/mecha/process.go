package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

// watchSignals returns a context that SIGTERM or SIGINT ends, at once and
// without draining, as Envoy does (who wants to drain posts /drain_listeners
// first). SIGUSR1 calls reopen, whose error is logged; SIGHUP and SIGPIPE are
// ignored. A second SIGTERM kills the process, in case ending hangs. stop gives
// the signals back.
func watchSignals(ctx context.Context, log *slog.Logger, reopen func() error) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				signal.Stop(signals)
				return
			case s := <-signals:
				if s != syscall.SIGUSR1 {
					log.Warn("caught a signal, exiting", "signal", s.String())
					signal.Stop(signals)
					cancel()
					return
				}
				if err := reopen(); err != nil {
					log.Error("cannot reopen the logs", "error", err)
				}
			}
		}
	}()
	return ctx, func() {
		cancel()
		<-done
		signal.Reset(syscall.SIGHUP, syscall.SIGPIPE)
	}
}

// memoryShare is how much of the container's memory limit the Go heap may plan
// with; the rest is for stacks of C, page tables and the kernel's socket
// buffers, which count against the same limit.
const memoryShare = 0.9

// mutexShare is one over the share of waits for locks that --enable-mutex-tracing looks
// at; the counts are scaled up again.
const mutexShare = 10

// loadGC is GOGC until the first configuration is complete. Reading it makes much garbage
// among what stays: collected late, it leaves holes that never become whole pages.
const loadGC = 25

// loadSparingly makes the collector work harder until what it returns is called. GOGC in
// the environment wins.
func loadSparingly() (done func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(loadGC)
	return func() { debug.SetGCPercent(before) }
}

// tuneRuntime applies --concurrency, and makes the garbage collector work
// harder before the container's memory limit is reached. GOMEMLIMIT in the
// environment wins. Without --concurrency Go itself follows the cgroup's CPU
// quota.
func tuneRuntime(o Options) {
	if o.Concurrency > 0 {
		runtime.GOMAXPROCS(o.Concurrency)
	}
	if o.MutexTracing {
		runtime.SetMutexProfileFraction(mutexShare)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit, ok := cgroupMemoryLimit(os.DirFS("/")); ok {
		debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
	}
}
