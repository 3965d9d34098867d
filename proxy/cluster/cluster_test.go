package cluster

import (
	"testing"
)

func TestRequestOverARealConnection(t *testing.T) {
	o := newOrigin(t)
	m := newTestManager(t, Options{})
	c := mustSet(t, m, staticSpec(o.host()))
	for range 3 {
		conn := mustAcquire(t, c, mustPick(t, c))
		ok, err := exchange(conn)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			t.Fatal("the connection can't be used again")
		}
		c.Release(conn, ok)
	}
	if n := o.accepted(); n != 1 {
		t.Errorf("%d connections for three requests, one after the other", n)
	}
	st := c.Stats()
	if total, active := st.UpstreamRqTotal.Value(), st.UpstreamRqActive.Value(); total != 3 || active != 0 {
		t.Errorf("upstream_rq_total %d, want 3; upstream_rq_active %d, want 0", total, active)
	}
}
