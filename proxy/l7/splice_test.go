package l7

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

type seesAll struct{}

func (seesAll) Reset()                                                 {}
func (seesAll) OnResponseData(*filter.Stream, *buffer.Buf, bool) error { return nil }

type seesSome struct {
	seesAll
	wants bool
}

func (f seesSome) WantsResponseData() bool { return f.wants }

// TestWhoSeesTheBody: the kernel may move a body that no filter wants to see.
func TestWhoSeesTheBody(t *testing.T) {
	for _, c := range []struct {
		name    string
		filters []filter.ResponseData
		off     uint64
		want    bool
	}{
		{"nobody", nil, 0, false},
		{"everything", []filter.ResponseData{seesAll{}}, 0, true},
		{"switched off", []filter.ResponseData{seesAll{}}, 1, false},
		{"not this one", []filter.ResponseData{seesSome{}, seesSome{}}, 0, false},
		{"this one", []filter.ResponseData{seesSome{}, seesSome{wants: true}}, 0, true},
		{"this one, switched off", []filter.ResponseData{seesSome{}, seesSome{wants: true}}, 2, false},
	} {
		st := &stream{chain: &chain{}, off: c.off}
		for i, f := range c.filters {
			st.chain.responseData = append(st.chain.responseData, hook[filter.ResponseData]{i, f})
		}
		if got := st.seesResponse(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
