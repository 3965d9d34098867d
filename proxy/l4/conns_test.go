package l4

import (
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// TestSlope: the share of connections that end grows with the time.
func TestSlope(t *testing.T) {
	const n = 4000
	begun := time.Now()
	s := slope{begun: begun, over: 100 * time.Second}
	for _, c := range []struct{ after, least, most time.Duration }{
		{0, 0, 0}, {10 * time.Second, 7, 13}, {50 * time.Second, 45, 55}, {90 * time.Second, 87, 93},
		{100 * time.Second, 100, 100}, {200 * time.Second, 100, 100},
	} {
		ended := 0
		for range n {
			if s.slips(begun.Add(c.after)) {
				ended++
			}
		}
		if share := time.Duration(100 * ended / n); share < c.least || share > c.most {
			t.Errorf("after %v %d %% end", c.after, share)
		}
	}
}

// TestGradualDrain: a connection is told nothing before the drain time is over; it may
// find out when it asks. Statements about health are not gradual.
func TestGradualDrain(t *testing.T) {
	begun, drained := make(chan *filter.Conn, 10), make(chan string, 10)
	mk := func() filter.Network { return watched{begun: begun, drained: drained} }
	m := newTestManager(t, Options{DrainTime: time.Hour, Gradual: true})
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: chainOf("x", Match{}, mk)})
	dial(t, l)
	c := <-begun
	if c.Engine.Ending() {
		t.Error("ends although nothing drains")
	}
	m.Drain(false, true, nil)
	s := l.cfg.Load().chains[0].conns.slope.Load()
	if s == nil || s.over != time.Hour {
		t.Fatalf("slope %+v", s)
	}
	select {
	case <-c.Engine.Draining():
		t.Error("told at once")
	default:
	}
	s.begun = s.begun.Add(-time.Hour)
	if !c.Engine.Ending() {
		t.Error("does not end although the time is over")
	}
	m.SetHealthy(false)
	if <-drained; !c.Engine.Ending() {
		t.Error("does not end although the process is not healthy")
	}
}
