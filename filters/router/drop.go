package router

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// The answers to requests that discovery wants dropped (drop_overloads).
var (
	replyDrop = filter.Reply{
		Code: 503, Body: "drop overload", Details: "drop_overload", Flags: meta.DropOverload,
		Header: []header.Field{{Name: "x-envoy-drop-overload", Value: "true"}},
	}
	replyDropAll = filter.Reply{
		Code: 503, Body: "unconditional drop overload", Details: "unconditional_drop_overload", Flags: meta.UnconditionalDropOverload,
		Header: []header.Field{{Name: "x-envoy-unconditional-drop-overload", Value: "true"}},
	}
)

// dropOverload answers in place of a cluster that discovery says is overloaded.
func (f *Filter) dropOverload(s *filter.Stream) error {
	drop, all := f.cluster.DropOverload()
	if !drop {
		return nil
	}
	reply := &replyDrop
	if all {
		reply = &replyDropAll
	}
	f.countReply(s, reply)
	return reply
}
