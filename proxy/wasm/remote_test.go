package wasm_test

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/wasm"
)

// remote is a server of code: what it answers, and a plugin that wants it.
type remote struct {
	*bench
	env    filter.Env
	config wasm.Config
	asked  atomic.Int64
}

func newRemote(t *testing.T, answer func(n int64, w http.ResponseWriter, code string)) *remote {
	t.Helper()
	text := code(t, probe)
	r := &remote{bench: &bench{t: t, store: stats.NewStore()}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/probe.wasm" || q.Host != "code" {
			t.Errorf("asked for %s%s", q.Host, q.URL.Path)
		}
		answer(r.asked.Add(1), w, text)
	}))
	t.Cleanup(s.Close)
	m := cluster.NewManager(cluster.Options{Stats: r.store})
	t.Cleanup(m.Close)
	limits := cluster.Thresholds{MaxConnections: 100, MaxPending: 100, MaxRequests: 100, MaxRetries: 3}
	err := m.Set(&cluster.Spec{
		Name: "c", Type: cluster.Static, ConnectTimeout: 15 * time.Second, PanicThreshold: 50,
		Assignment: &cluster.Assignment{Cluster: "c", Overprovisioning: 140, Localities: []cluster.Locality{{
			Hosts: []cluster.HostSpec{{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort(s.Listener.Addr().String())}, Weight: 1}},
		}}},
		Breakers: [2]cluster.Thresholds{limits, limits},
		HTTP:     cluster.HTTPOptions{IdleTimeout: time.Hour, MaxHeadersCount: 100, MaxHeadersKB: 60},
		Hash:     1,
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	r.config = wasm.Config{Name: "probe", VM: wasm.VMConfig{Runtime: "envoy.wasm.runtime.v8", Remote: &wasm.Remote{
		HTTP: call.HTTP{Cluster: "c", Authority: "code", Path: "/probe.wasm", Timeout: 15 * time.Second}, SHA256: hex.EncodeToString(sum[:]),
		Times: 2, Pauses: backoff.Policy{Base: time.Millisecond, Max: time.Millisecond},
	}}}
	r.env = filter.Env{Stats: r.store, Shares: filter.NewShares(), Clusters: m, Log: slog.New(slog.DiscardHandler), Retire: func(f func()) { r.retire = append(r.retire, f) }}
	t.Cleanup(func() {
		for _, f := range r.retire {
			f()
		}
	})
	return r
}

func (r *remote) open() (err error) {
	r.Plugin, err = wasm.Open(&r.config, r.env)
	return err
}

func right(_ int64, w http.ResponseWriter, code string) { _, _ = w.Write([]byte(code)) }

// TestRemote: code is fetched, streams wait for it, and the next plugin has it at once.
func TestRemote(t *testing.T) {
	r := newRemote(t, func(n int64, w http.ResponseWriter, code string) {
		if n == 1 {
			w.WriteHeader(503)
			return
		}
		right(n, w, code)
	})
	for range 2 {
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		if err := r.ask("/"); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.asked.Load(); n != 2 {
		t.Errorf("the server was asked %d times, want 2", n)
	}
	for name, want := range map[string]uint64{"misses": 1, "hits": 1} {
		if n := r.stat("wasm.remote_load_cache_" + name); n != want {
			t.Errorf("remote_load_cache_%s is %d, want %d", name, n, want)
		}
	}
	for name, want := range map[string]uint64{"failures": 1, "successes": 1} {
		if n := r.stat("wasm.remote_load_fetch_" + name); n != want {
			t.Errorf("remote_load_fetch_%s is %d, want %d", name, n, want)
		}
	}
}

// TestRemoteWrong: code with another checksum does not run, however often it is asked for.
func TestRemoteWrong(t *testing.T) {
	r := newRemote(t, func(_ int64, w http.ResponseWriter, code string) { _, _ = w.Write([]byte(code + "!")) })
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	if err := r.ask("/"); err == nil {
		t.Error("the stream has a guest")
	}
	if n := r.asked.Load(); n != 3 {
		t.Errorf("the server was asked %d times, want 3", n)
	}
}

// TestRemoteRefused: with nack_on_code_cache_miss the configuration is refused until the code is here.
func TestRemoteRefused(t *testing.T) {
	r := newRemote(t, right)
	r.config.VM.Remote.Refuse = true
	if err := r.open(); err == nil {
		t.Fatal("it is not refused")
	}
	for begun := time.Now(); r.stat("wasm.remote_load_fetch_successes") == 0; runtime.Gosched() {
		if time.Since(begun) > 15*time.Second {
			t.Fatal("the code does not come")
		}
	}
	for begun := time.Now(); ; runtime.Gosched() { // the counter comes before the code
		err := r.open()
		if err == nil {
			break
		}
		if time.Since(begun) > 15*time.Second {
			t.Fatal(err)
		}
	}
	if err := r.ask("/"); err != nil {
		t.Error(err)
	}
}
