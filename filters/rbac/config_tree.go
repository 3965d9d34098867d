package rbac

import (
	"fmt"
	"slices"
	"strings"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// The inputs that a tree of this filter may read, by the ends of their names: those whose
// values are there when the request, or the connection, is.
var (
	connInputs = []string{
		"network.v3.DestinationIPInput", "network.v3.DestinationPortInput", "network.v3.SourceIPInput", "network.v3.SourcePortInput",
		"network.v3.DirectSourceIPInput", "network.v3.ServerNameInput", "network.v3.FilterStateInput", "network.v3.DynamicMetadataInput",
		"ssl.v3.UriSanInput", "ssl.v3.DnsSanInput", "ssl.v3.SubjectInput",
	}
	streamInputs = append([]string{"HttpRequestHeaderMatchInput", "HttpRequestQueryParamMatchInput", "HttpAttributesCelMatchInput"}, connInputs...)
)

// input converts an input with convert, if it is one of those of the list.
func input[C any](b *builder, list []string, convert func(filter.Any) (fromproto.TreeInput[C], error)) func(filter.Any) (fromproto.TreeInput[C], error) {
	return func(c filter.Any) (fromproto.TreeInput[C], error) {
		if !slices.ContainsFunc(list, func(end string) bool { return strings.HasSuffix(c.Type, "."+end) }) {
			return fromproto.TreeInput[C]{}, filter.At("typed_config", fmt.Errorf("RBAC cannot match on %q", c.Type))
		}
		if strings.HasSuffix(c.Type, ".FilterStateInput") || strings.HasSuffix(c.Type, ".DynamicMetadataInput") {
			b.late = true
		}
		return convert(c)
	}
}

func (b *builder) tree(pb *xdsmatcherv3.Matcher) (e *engine, err error) {
	e = &engine{treed: true}
	toOutcome := func(_ string, c filter.Any) (*outcome, error) {
		o, err := outcomeOf(c)
		if err == nil && o.action == log {
			e.logs = true
		}
		return o, filter.At("typed_config", err)
	}
	if b.http {
		e.streams, err = fromproto.Tree(pb, b.p, fromproto.TreeOptions[*filter.Stream, *outcome]{Input: input(b, streamInputs, fromproto.HTTPInput), Action: toOutcome})
	} else {
		e.conns, err = fromproto.Tree(pb, b.p, fromproto.TreeOptions[*filter.Conn, *outcome]{Input: input(b, connInputs, fromproto.NetworkInput), Action: toOutcome})
	}
	return e, err
}

const actionType = "envoy.config.rbac.v3.Action"

func outcomeOf(c filter.Any) (*outcome, error) {
	if c.Type != actionType {
		return nil, fmt.Errorf("has the type %q, expected %s", c.Type, actionType)
	}
	var pb rbacv3.Action
	if err := fromproto.Unmarshal(c.Value, &pb); err != nil {
		return nil, err
	}
	a, err := actionOf(pb.Action)
	if err != nil {
		return nil, filter.At("action", err)
	}
	o := &outcome{policyName: named(pb.Name), action: a}
	o.logged = a == log
	return o, nil
}
