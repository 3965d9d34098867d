package h2

import (
	"errors"
	"testing"

	"golang.org/x/net/http2"

	"github.com/mecha-mesh/mecha/proxy/codec"
)

// A peer that allows fewer streams than were promised: who comes too late is told to go
// elsewhere, but not if it allows none.
func TestALimitThatComesLate(t *testing.T) {
	for _, limit := range []uint32{2, 0} {
		a, b := pair(t)
		c := dial(t, a, ClientOptions{})
		changed := make(chan struct{}, 8)
		c.Watch(func() { changed <- struct{}{} })
		fr := http2.NewFramer(b, b)
		if err := fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit}); err != nil {
			t.Fatal(err)
		}
		for c.Limit() != int(limit) {
			<-changed
		}
		for range limit {
			st, err := c.Open(noContext)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Release()
		}
		if _, err := c.Open(noContext); err == nil || errors.Is(err, codec.ErrFull) != (limit > 0) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}
