package xds

import (
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// Many published bootstraps have listeners without a name: each gets one of its own.
func TestListenersOfABootstrapNeedNoName(t *testing.T) {
	in := []*listenerv3.Listener{{}, {Name: "web"}, {Name: "static_listener_3"}, {}}
	out := nameListeners(in)
	for i, want := range []string{"static_listener_0", "web", "static_listener_3", "static_listener_3_"} {
		if out[i].Name != want {
			t.Errorf("listener %d is called %q, want %q", i, out[i].Name, want)
		}
	}
	if in[0].Name != "" {
		t.Error("the bootstrap was changed")
	}
}
