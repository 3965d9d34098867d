package l7

import (
	"sync"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
)

// TestEndIsNotedFirst: who sees that a request is complete sees when that was, on another
// goroutine, too. The race detector tells.
func TestEndIsNotedFirst(t *testing.T) {
	st := &stream{chain: &chain{}}
	st.next.set(codec.Data)
	var wg sync.WaitGroup
	wg.Go(func() {
		var b buffer.Buf
		if err := st.received(&b, codec.End, maxFilters); err != nil {
			t.Error(err)
		}
	})
	for st.RequestBody() != codec.End {
	}
	if st.Meta.RequestEnd == 0 {
		t.Error("the end of the request has no time")
	}
	wg.Wait()
}
