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

var replyMaintenance = filter.Reply{
	Code: 503, Body: "maintenance mode", Details: "maintenance_mode", Flags: meta.UpstreamOverflow,
	Header: []header.Field{{Name: "x-envoy-overloaded", Value: "true"}},
}

// maintenance answers in place of a cluster that an operator has taken out of service.
func (f *Filter) maintenance(s *filter.Stream) error {
	if !f.cluster.InMaintenance() {
		return nil
	}
	reply := &replyMaintenance
	if f.sh.config.SuppressEnvoyHeaders {
		plain := *reply
		plain.Header = nil
		reply = &plain
	}
	f.countReply(s, reply)
	return reply
}

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
