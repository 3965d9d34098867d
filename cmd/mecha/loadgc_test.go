package main

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// TestCollectorAfterTheStart: the collector works harder only until the configuration is
// complete, also where the same process has verified it before.
func TestCollectorAfterTheStart(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: "{}"})
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyEngine(b, Options{}); err != nil {
		t.Fatal(err)
	}
	if got := gogc(); got != 100 {
		t.Errorf("after verifying: GOGC %d", got)
	}
	quiet := slog.New(slog.DiscardHandler)
	p, err := newProxy(b, Options{}, func(string) *slog.Logger { return quiet }, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if got := gogc(); got != loadGC {
		t.Errorf("while it starts: GOGC %d", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.dynamic.Run(ctx) }()
	for end := time.Now().Add(20 * time.Second); gogc() == loadGC && time.Now().Before(end); {
		runtime.Gosched()
	}
	if got := gogc(); got < 100 {
		t.Errorf("after the start: GOGC %d", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
