package fromproto

import (
	"errors"
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// tree converts the matcher of a virtual host.
func (b *hostBuilder) tree() error {
	if b.pb.Matcher == nil {
		return nil
	}
	if len(b.pb.Routes) > 0 {
		return filter.At("matcher", errors.New("cannot be set together with routes"))
	}
	inner := *b
	table := *b.tableBuilder
	table.validate = false // as in Envoy
	inner.tableBuilder = &table
	t, err := Tree(b.pb.Matcher, b.p, TreeOptions[*filter.Stream, *route.List]{
		Input:  HTTPInput,
		Action: func(_ string, c filter.Any) (*route.List, error) { return inner.treeAction(c) },
	})
	b.vh.Tree = t
	return filter.At("matcher", err)
}

// treeAction converts what a matcher leads to: a route, or a list of them.
func (b *hostBuilder) treeAction(c filter.Any) (*route.List, error) {
	var list []*routev3.Route
	switch c.Type {
	case "envoy.config.route.v3.Route":
		var one routev3.Route
		if err := Unmarshal(c.Value, &one); err != nil {
			return nil, filter.At("typed_config", err)
		}
		e, err := b.entry(&one)
		if err != nil || e.Route == nil && e.Weighted == nil {
			return route.NewList(nil, b.vh), filter.At("typed_config", err)
		}
		return route.NewList([]route.Entry{e}, b.vh), nil
	case "envoy.config.route.v3.RouteList":
		var many routev3.RouteList
		if err := Unmarshal(c.Value, &many); err != nil {
			return nil, filter.At("typed_config", err)
		}
		list = many.Routes
	default:
		return nil, filter.At("typed_config", fmt.Errorf("this build does not support the action %q", c.Type))
	}
	entries, err := b.entries(list)
	return route.NewList(entries, b.vh), filter.At("typed_config", err)
}

// entries converts a list named routes.
func (b *hostBuilder) entries(list []*routev3.Route) (out []route.Entry, err error) {
	for i, r := range list {
		e, err := b.entry(r)
		if err != nil {
			return nil, filter.AtIndex("routes", i, err)
		}
		if e.Route == nil && e.Weighted == nil {
			continue // without its optional cluster specifier it takes no request
		}
		out = append(out, e)
	}
	return out, nil
}
