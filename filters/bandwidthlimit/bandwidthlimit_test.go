package bandwidthlimit

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bandwidthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/bandwidth_limit/v3"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

func config(t *testing.T, text string, route bool) (*Config, error) {
	t.Helper()
	return parseAt(message.Raw(t, &bandwidthv3.BandwidthLimit{}, text), &filter.Parser{}, route)
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                  "stat_prefix",
		`{"statPrefix": "x", "limitKbps": 0}`: "limit_kbps",
		`{"statPrefix": "x", "limitKbps": 1, "fillInterval": "0.01s"}`: "fill_interval",
		`{"statPrefix": "x", "limitKbps": 1, "fillInterval": "2s"}`:    "fill_interval",
		`{"statPrefix": "x", "enableMode": 7}`:                         "enable_mode",
	} {
		if _, err := config(t, text, false); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := config(t, `{"statPrefix": "x", "enableMode": "REQUEST"}`, true); err == nil || !strings.HasPrefix(err.Error(), "limit_kbps") {
		t.Errorf("a route without a limit: %v", err)
	}
}

// engine notes who paces.
type engine struct {
	filter.Engine
	request, response filter.Pacer
}

func (e *engine) PaceRequest(p filter.Pacer)  { e.request = p }
func (e *engine) PaceResponse(p filter.Pacer) { e.response = p }

// TestTrailers: the client is told how long each body took, and how much of that the
// filter made it wait.
func TestTrailers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := config(t, `{"statPrefix": "x", "enableMode": "REQUEST_AND_RESPONSE", "limitKbps": 1, "enableResponseTrailers": true, "responseTrailerPrefix": "my"}`, false)
		if err != nil {
			t.Fatal(err)
		}
		mk, err := newFactory(c, filter.Env{Stats: stats.NewStore()})
		if err != nil {
			t.Fatal(err)
		}
		f, e := mk().(*Filter), &engine{}
		s := &filter.Stream{Engine: e}
		move := func(p filter.Pacer, n int) {
			for n > 0 {
				granted, again := p.Take(n, time.Now())
				if n -= granted; n > 0 {
					time.Sleep(again)
				}
			}
			p.Complete(s)
		}
		var b buffer.Buf
		defer b.Release()
		b.AppendString("x")
		if err := f.OnRequestHeaders(s, false); err != nil {
			t.Fatal(err)
		}
		if err := f.OnRequestData(s, &b, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Millisecond) // of the client
		move(e.request, 1024)
		if err := f.OnResponseHeaders(s, false); err != nil {
			t.Fatal(err)
		}
		if err := f.OnResponseData(s, &b, true); err != nil {
			t.Fatal(err)
		}
		move(e.response, 512)
		f.OnDone(s)
		want := map[string]string{
			"my-bandwidth-request-delay-ms": "30", "my-bandwidth-response-delay-ms": "500", "my-bandwidth-response-filter-delay-ms": "500",
		}
		for name, v := range s.ResponseTrailers.All() {
			if want[name] != v {
				t.Errorf("%s: %s, want %q", name, v, want[name])
			}
			delete(want, name)
		}
		if len(want) > 0 {
			t.Errorf("missing: %v", want)
		}
		if n := f.counts.RequestPending.Value() + f.counts.ResponsePending.Value(); n != 0 {
			t.Errorf("%d bodies are still under way", n)
		}
	})
}
