package cluster

import (
	"io"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

func TestConnectionsToAHostThatFails(t *testing.T) {
	o := newOrigin(t)
	s := staticSpec(o.host())
	s.CloseOnHostFailure = true
	c := mustSet(t, newTestManager(t, Options{}), s)
	h := mustPick(t, c)
	idle, busy, raw := mustAcquire(t, c, h), mustAcquire(t, c, h), mustDial(t, c)
	c.Release(idle, true)
	c.SetFlags(h, FailedActiveHC, 0)
	st := c.Stats()
	if n := st.UpstreamCxActive.Value(); n != 2 {
		t.Errorf("%d connections are open, want the busy and the raw one", n)
	}
	var b buffer.Buf
	if _, err := raw.ReadBuf(&b); err == nil || err == io.EOF {
		t.Errorf("the raw connection goes on: %v", err)
	}
	_ = raw.Close()
	c.SetFlags(h, 0, FailedActiveHC)
	c.Release(busy, true)
	if n := st.UpstreamCxActive.Value(); n != 0 {
		t.Errorf("%d connections are open: one from before the failure is kept", n)
	}
	again := mustAcquire(t, c, h)
	c.Release(again, true)
	if mustAcquire(t, c, h) != again {
		t.Error("a connection from after the failure is not kept")
	}
}

// Without close_connections_on_host_health_failure raw connections go on.
func TestRawConnectionsOutliveTheHealthOfTheirHost(t *testing.T) {
	o := newOrigin(t)
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(o.host()))
	raw := mustDial(t, c)
	c.SetFlags(raw.Host, FailedActiveHC, 0)
	if _, err := io.WriteString(raw, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Error(err)
	}
	var b buffer.Buf
	defer b.Release()
	if _, err := raw.ReadBuf(&b); err != nil {
		t.Error(err)
	}
}
