package cluster

import (
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

func TestEndpointStats(t *testing.T) {
	store := stats.NewStore()
	store.SetMatcher(func(string) bool { return false }) // does not count, as in Envoy
	m := newTestManager(t, Options{Stats: store})
	o := newOrigin(t)
	v6 := hostAt("[::1]:81")
	v6.Hostname, v6.Health = "six", Degraded
	spec := staticSpec(o.host(), v6)
	spec.StatName = "a:b"
	spec.Track.Endpoints = true
	c := mustSet(t, m, spec)
	unasked := staticSpec(hostAt("10.0.0.1:80"))
	unasked.Name = "unasked"
	mustPick(t, mustSet(t, m, unasked))
	if got := text(t, store); got != "" {
		t.Errorf("of an unused cluster: %s", got)
	}
	h := c.Hosts()[0]
	conn := mustAcquire(t, c, h)
	got := text(t, store)
	of := "cluster.a_b.endpoint." + strings.ReplaceAll(o.Addr().String(), ":", "_") + "."
	for _, line := range []string{
		of + "cx_total: 1", of + "cx_active: 1", of + "rq_total: 1", of + "rq_active: 1", of + "cx_connect_fail: 0",
		of + "rq_success: 0", of + "rq_error: 0", of + "rq_timeout: 0", of + "rq_pending_active: 0", of + "healthy: 1",
		"cluster.a_b.endpoint.[__1]_81.cx_total: 0", "cluster.a_b.endpoint.[__1]_81.healthy: 0",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
	if strings.Contains(got, "unasked") {
		t.Error("there are those of a cluster that did not want them")
	}
	c.Abandon(conn)
	var prom strings.Builder
	if err := store.WritePrometheus(&prom, stats.Query{UsedOnly: true}); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`envoy_cluster_endpoint_cx_total{envoy_cluster_name="a_b",envoy_endpoint_address="` + o.Addr().String() + `"} 1`,
		`envoy_cluster_endpoint_cx_total{envoy_cluster_name="a_b",envoy_endpoint_address="[::1]:81",envoy_endpoint_hostname="six"} 0`,
	} {
		if !strings.Contains(prom.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, prom.String())
		}
	}
	m.Remove("web")
	if got := text(t, store); got != "" {
		t.Errorf("of a cluster that is gone: %s", got)
	}
}

// text is what /stats?usedonly says.
func text(t *testing.T, st *stats.Store) string {
	t.Helper()
	var b strings.Builder
	if err := st.WriteText(&b, stats.Query{UsedOnly: true}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
