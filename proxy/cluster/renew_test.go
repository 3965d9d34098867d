package cluster

import "testing"

// With close_connections_on_host_set_change no connection outlives a change of the
// hosts, but what uses one goes on.
func TestConnectionsAreClosedWhenHostsChange(t *testing.T) {
	m := newTestManager(t, Options{})
	o := newOrigin(t)
	s := edsSpec("web")
	s.CloseOnChange = true
	mustSet(t, m, s)
	mustAssign(t, m, assignment(s.service(), o.host()))
	c := m.Cluster("web")
	h := mustPick(t, c)
	idle, busy := mustAcquire(t, c, h), mustAcquire(t, c, h)
	c.Release(idle, true)
	mustAssign(t, m, assignment(s.service(), o.host(), hostAt("10.0.0.9:80")))
	if n := c.Stats().UpstreamCxActive.Value(); n != 1 {
		t.Errorf("%d connections are open, only the busy one may be", n)
	}
	if reusable, err := exchange(busy); err != nil || !reusable {
		t.Errorf("the busy connection does not work: %v", err)
	}
	c.Release(busy, true)
	if n := c.Stats().UpstreamCxActive.Value(); n != 0 {
		t.Errorf("%d connections are open after the last exchange", n)
	}
	// The same hosts again: nothing happens.
	conn := mustAcquire(t, c, h)
	c.Release(conn, true)
	mustAssign(t, m, assignment(s.service(), o.host(), hostAt("10.0.0.9:80")))
	if n := c.Stats().UpstreamCxActive.Value(); n != 1 {
		t.Errorf("%d connections are open after an update without a change", n)
	}
}
