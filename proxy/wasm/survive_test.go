package wasm_test

import (
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/wasm"
	"github.com/mecha-mesh/mecha/proxy/wasm/wat"
)

// stream is a request for a path.
type stream struct {
	head header.Map
	body buffer.Buf
}

func (s *stream) Map(t wasm.MapType) (*header.Map, bool) {
	if t == wasm.RequestHeaders {
		return &s.head, true
	}
	return nil, false
}
func (s *stream) Changed(wasm.MapType)                 {}
func (s *stream) Buffer(wasm.BufferType) *buffer.Buf   { return &s.body }
func (s *stream) Attributes() attributes.Source        { return attributes.Source{} }
func (s *stream) Reply(*filter.Reply) wasm.Status      { return wasm.StatusOK }
func (s *stream) Continue(wasm.StreamType) wasm.Status { return wasm.StatusOK }
func (s *stream) Close(wasm.StreamType) wasm.Status    { return wasm.StatusOK }
func (s *stream) ClearRouteCache() wasm.Status         { return wasm.StatusOK }

// bench is a plugin under test.
type bench struct {
	t *testing.T
	*wasm.Plugin
	store  *stats.Store
	retire []func()
}

func code(tb testing.TB, file string) string {
	tb.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := wat.Assemble(string(source))
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

const probe = "../../filters/wasm/testdata/guests/probe.wat"

func open(t *testing.T, change func(*wasm.Config)) *bench {
	t.Helper()
	b := &bench{t: t, store: stats.NewStore()}
	c := &wasm.Config{Name: "probe", VM: wasm.VMConfig{Runtime: "envoy.wasm.runtime.v8", Code: code(t, probe)}}
	if change != nil {
		change(c)
	}
	env := filter.Env{Stats: b.store, Shares: filter.NewShares(), Log: slog.New(slog.DiscardHandler), Retire: func(f func()) { b.retire = append(b.retire, f) }}
	var err error
	if b.Plugin, err = wasm.Open(c, env); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range b.retire {
			f()
		}
	})
	return b
}

// ask has a stream for a path seen by the guest.
func (b *bench) ask(path string) error {
	b.t.Helper()
	return b.show(&stream{}, path)
}

func (b *bench) show(s *stream, path string) error {
	b.t.Helper()
	s.head.AddID(header.Path, path)
	var c wasm.Context
	err := b.Enter(&c, s)
	if c.Entered() {
		if err == nil {
			c.Lock()
			_, err = c.OnRequestHeaders(s.head.Len(), true)
			c.Unlock()
		}
		c.Leave()
	}
	return err
}

func (b *bench) stat(name string) (v uint64) {
	b.store.Each(func(m stats.Metric) {
		if m.Name == name && m.Counter != nil {
			v = m.Counter.Value()
		}
	})
	return v
}

// TestSurvival: whatever a guest does costs the stream on whose behalf it does it, and the
// next one has a guest again.
func TestSurvival(t *testing.T) {
	for path, what := range map[string]string{"/t": "a trap", "/l": "an endless loop", "/d": "endless recursion", "/b": "a memory bomb"} {
		t.Run(what, func(t *testing.T) {
			b := open(t, nil)
			if err := b.ask("/"); err != nil {
				t.Fatal(err)
			}
			err := b.ask(path)
			if err == nil {
				t.Fatal("the guest has not failed")
			}
			if errors.Is(err, wasm.ErrOverrun) != (path == "/l") {
				t.Errorf("it failed with %v", err)
			}
			if err := b.ask("/"); err != nil {
				t.Errorf("the stream after it: %v", err)
			}
			if n := b.stat("wasm.probe.traps"); n != 1 {
				t.Errorf("%d traps, want 1", n)
			}
		})
	}
}

// TestBreaker: a plugin that keeps failing is stopped, and is tried again later.
func TestBreaker(t *testing.T) {
	b := open(t, func(c *wasm.Config) { c.BackOff = time.Hour })
	for range 5 {
		if err := b.ask("/t"); err == nil {
			t.Fatal("the guest has not failed")
		}
	}
	if err := b.ask("/"); err == nil {
		t.Error("a plugin that keeps failing is not stopped")
	}
	if n := b.stat("wasm.probe.breaker_opened"); n != 0 && n != 1 {
		t.Errorf("it was stopped %d times", n)
	}
}

// TestRecycled: a guest whose memory has grown is replaced, without a failure.
func TestRecycled(t *testing.T) {
	b := open(t, nil)
	if err := b.ask("/g"); err != nil {
		t.Fatal(err)
	}
	if n := b.stat("wasm.probe.recycled"); n != 1 {
		t.Errorf("%d recycled, want 1", n)
	}
	if err := b.ask("/"); err != nil {
		t.Error(err)
	}
}

// TestShared: a guest keeps data for later streams, and counts in metrics of its own.
func TestShared(t *testing.T) {
	b := open(t, nil)
	for i, want := range []string{"", "/s1"} {
		s := &stream{}
		if err := b.show(s, "/s"+strconv.Itoa(i+1)); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.head.Find("x-probe"); got != want {
			t.Errorf("stream %d: the path of the one before is %q, want %q", i, got, want)
		}
	}
	if n := b.stat("wasmcustom.probes"); n != 2 {
		t.Errorf("wasmcustom.probes is %d, want 2", n)
	}
}

// TestBackground: ticks come, and what is put into a queue arrives.
func TestBackground(t *testing.T) {
	b := open(t, func(c *wasm.Config) { c.VM.Code = code(t, "../../filters/wasm/testdata/guests/background.wat") })
	for begun := time.Now(); b.stat("wasmcustom.ticks") < 2 || b.stat("wasmcustom.messages") < 2; runtime.Gosched() {
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("%d ticks, %d messages", b.stat("wasmcustom.ticks"), b.stat("wasmcustom.messages"))
		}
	}
}

// TestRefused: a plugin that does not want its configuration is none.
func TestRefused(t *testing.T) {
	c := &wasm.Config{Configuration: "!", VM: wasm.VMConfig{Code: code(t, probe)}}
	env := filter.Env{Stats: stats.NewStore(), Shares: filter.NewShares(), Log: slog.New(slog.DiscardHandler)}
	if _, err := wasm.Open(c, env); err == nil {
		t.Error("it is used")
	}
}

// TestCapabilities: what a guest may not call fails, and what it may not be asked is not.
func TestCapabilities(t *testing.T) {
	b := open(t, func(c *wasm.Config) { c.VM.Allowed = []string{"proxy_on_context_create"} })
	if err := b.ask("/t"); err != nil {
		t.Errorf("a callback that is not allowed was called: %v", err)
	}
}
