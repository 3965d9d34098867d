package statsd

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

type counted struct {
	Requests stats.Counter   `stat:"rq_total" help:"requests"`
	Active   stats.Gauge     `stat:"rq_active" help:"now"`
	Time     stats.Histogram `stat:"rq_time" help:"how long"`
	Unused   stats.Counter   `stat:"unused" help:"nothing"`
}

func TestDialects(t *testing.T) {
	for dialect, want := range map[Dialect][]string{
		Plain:    {"p.cluster.a.rq_active:2|g", "p.cluster.a.rq_time:5|ms|@0.5", "p.cluster.a.rq_total:3|c"},
		Dog:      {"p.cluster.rq_active:2|g|#envoy.cluster_name:a", "p.cluster.rq_time:5|ms|@0.5|#envoy.cluster_name:a", "p.cluster.rq_total:3|c|#envoy.cluster_name:a"},
		Graphite: {"p.cluster.rq_active;envoy.cluster_name=a:2|g", "p.cluster.rq_time;envoy.cluster_name=a:5|ms|@0.5", "p.cluster.rq_total;envoy.cluster_name=a:3|c"},
	} {
		l, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		st := stats.NewStore()
		var c counted
		st.Scope("cluster").Tag("envoy_cluster_name", "a").Bind(&c)
		s, err := Open(Config{Address: l.LocalAddr().String(), Prefix: "p", Dialect: dialect, Max: 512}, st)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sampler := stats.NewSampler(st)
		c.Requests.Add(3)
		c.Active.Set(2)
		st.Flush()
		c.Time.Record(5)
		c.Time.Record(5)
		st.Flush()
		s.Flush(sampler.Sample())
		if got := read(t, l); !slices.Equal(got, want) {
			t.Errorf("dialect %d: got %q", dialect, got)
		}
		c.Requests.Inc()
		st.Flush()
		s.Flush(sampler.Sample())
		got := read(t, l)
		if !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, ":1|c") }) {
			t.Errorf("dialect %d: the second time %q", dialect, got)
		}
	}
}

// read reads the lines of a datagram, in order.
func read(t *testing.T, l net.PacketConn) []string {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, _, err := l.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b[:n]), "\n")
	slices.Sort(lines)
	return lines
}
