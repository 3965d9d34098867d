package originaldst

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// TestInternal: what is known of a connection from inside the process is what its dialer
// has passed.
func TestInternal(t *testing.T) {
	fresh := func() *filter.Conn {
		return &filter.Conn{Meta: &meta.Conn{Local: meta.InternalAddr("l", "e"), Remote: meta.InternalAddr("c", "")}}
	}
	c := fresh()
	restoreInternal(c)
	if c.Meta.LocalRestored || c.Meta.Local.String() != "envoy://l/e" {
		t.Errorf("%+v", c.Meta)
	}
	c = fresh()
	c.Metadata.Set(namespace, localField, "10.0.0.1:80")
	restoreInternal(c)
	if !c.Meta.LocalRestored || c.Meta.Local.String() != "10.0.0.1:80" || !c.Meta.Remote.IsInternal() {
		t.Errorf("%+v", c.Meta)
	}
	c.State.Set(localState, "10.0.0.2:81")
	c.State.Set(remoteState, "10.0.0.3:82")
	restoreInternal(c)
	if c.Meta.Local.String() != "10.0.0.2:81" || c.Meta.Remote.String() != "10.0.0.3:82" {
		t.Errorf("%+v", c.Meta)
	}
}

func TestParse(t *testing.T) {
	r, err := filter.NewRegistry(Spec)
	if err != nil {
		t.Fatal(err)
	}
	p := &filter.Parser{Registry: r}
	if f, err := p.Listener(filter.Any{Type: Spec.Type}); err != nil || f == nil {
		t.Errorf("%v", err)
	}
	if _, err := p.Listener(filter.Any{Type: Spec.Type, Value: []byte{0xff}}); err == nil {
		t.Error("took what is no message")
	}
}
