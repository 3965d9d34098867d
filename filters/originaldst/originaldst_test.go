package originaldst

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

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
