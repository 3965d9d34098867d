package l4

import (
	"context"
	"io"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// TestInternalListener: a connection from inside the process goes through listener
// filters and chains as any other, knows what its dialer has passed, and ends with the
// listener.
func TestInternalListener(t *testing.T) {
	m := newTestManager(t, Options{})
	seen := make(chan string, 1)
	spec := &Spec{
		Name: "inner", Internal: true, Addresses: []Address{{Addr: meta.InternalAddr("inner", "")}},
		Filters: []ListenerFilter{inspects(func(p filter.Peeker) error {
			b, err := p.Peek(2)
			seen <- string(b[:2]) + " " + p.Meta().Local.String() + " " + p.Meta().Remote.String()
			return err
		})},
		Default: chainOf("c", Match{}, func() filter.Network {
			return speak{func(c *filter.Conn) string {
				var b buffer.Buf
				defer b.Release()
				if _, err := c.Engine.Recv(&b); err != nil {
					return err.Error()
				}
				v, _ := c.Metadata.Find("ns", "k")
				text, _ := filter.StateText(c.State.Get("key"))
				return string(b.Bytes()) + " " + v.(string) + " " + text
			}}
		}),
	}
	l := setListener(t, m, spec)
	if b := l.Bound(); len(b) != 1 || b[0].String() != "envoy://inner/" {
		t.Errorf("bound to %v", b)
	}
	with := meta.Passed{
		Metadata: map[string]map[string]any{"ns": {"k": "v"}}, State: []meta.Object{{Key: "key", Value: "object"}},
	}
	c, err := m.DialInternal(context.Background(), meta.InternalAddr("inner", "ep"), with)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "hi")
	if got := said(t, c); got != "hi v object" {
		t.Errorf("got %q", got)
	}
	if got := <-seen; got != "hi envoy://inner/ep envoy://internal_client_address/" {
		t.Errorf("the listener filter has seen %q", got)
	}
	eventually(t, m, "listener.envoy_internal_inner.downstream_cx_total", 1)
	eventually(t, m, "listener.envoy_internal_inner.downstream_cx_active", 0)
	if _, err := m.DialInternal(context.Background(), meta.InternalAddr("other", ""), with); err == nil {
		t.Error("connected to a listener that is not there")
	}
	m.Remove("inner")
	if _, err := m.DialInternal(context.Background(), meta.InternalAddr("inner", "ep"), with); err == nil {
		t.Error("connected to a listener that was removed")
	}
}
