package admin

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// The server counts itself under the names that Envoy's admin listener has.
func TestOwnCounters(t *testing.T) {
	st := stats.NewStore()
	s := New(Config{Stats: st, Source: &process{}})
	l, err := Listen(meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{"/help", "/nothing"} {
		resp, err := client.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := map[string]int64{
		"listener.admin.downstream_cx_total": 3, "listener.admin.downstream_cx_active": 1, "listener.admin.downstream_cx_destroy": 2,
		"listener.admin.downstream_cx_overflow": 0, "listener.admin.no_filter_chain_match": 0,
		"listener.admin.http.admin.downstream_rq_4xx": 1, "listener.admin.http.admin.downstream_rq_completed": 2,
		"http.admin.downstream_cx_total": 3, "http.admin.downstream_cx_http1_total": 2, "http.admin.downstream_cx_http1_active": 0, "http.admin.downstream_rq_total": 2,
		"http.admin.downstream_rq_active": 0, "http.admin.downstream_rq_2xx": 1, "http.admin.downstream_rq_4xx": 1,
	}
	got := map[string]int64{}
	for deadline := time.Now().Add(20 * time.Second); ; {
		st.Each(func(m stats.Metric) {
			switch {
			case m.Counter != nil:
				got[m.Name] = int64(m.Counter.Value())
			case m.Gauge != nil:
				got[m.Name] = m.Gauge.Value()
			}
		})
		wrong := ""
		for name, n := range want {
			if v, ok := got[name]; !ok || v != n {
				wrong = name
			}
		}
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %d, want %d", wrong, got[wrong], want[wrong])
		}
	}
}
