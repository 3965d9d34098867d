package fromproto

import (
	"errors"
	"fmt"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// Routes compiles a RouteConfiguration. It is what Parser.Routes is set to.
func Routes(raw []byte, p *filter.Parser) (filter.RouteTable, error) {
	var pb routev3.RouteConfiguration
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("route_config: %w", err)
	}
	var hosts []*route.VirtualHost
	for i, v := range pb.VirtualHosts {
		vh := &route.VirtualHost{Name: v.Name, Domains: v.Domains}
		for j, r := range v.Routes {
			e, err := routeEntry(r)
			if err != nil {
				return nil, filter.AtIndex("virtual_hosts", i, filter.AtIndex("routes", j, err))
			}
			vh.Routes = append(vh.Routes, e)
		}
		hosts = append(hosts, vh)
	}
	return route.NewTable(pb.Name, hosts), nil
}

func routeEntry(pb *routev3.Route) (e route.Entry, err error) {
	switch m := pb.GetMatch().GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		e.Match.Prefix = m.Prefix
	case *routev3.RouteMatch_Path:
		e.Match.Path = m.Path
	default:
		return e, filter.At("match", fmt.Errorf("this build does not support %T", m))
	}
	r := &route.Route{RouteName: pb.Name}
	e.Route = r
	switch a := pb.Action.(type) {
	case *routev3.Route_Route:
		r.Forward = &route.ForwardAction{Cluster: a.Route.GetCluster(), Timeout: 15 * time.Second}
		if d := a.Route.Timeout; d != nil {
			r.Forward.Timeout = d.AsDuration()
		}
	case *routev3.Route_DirectResponse:
		r.Kind = route.Direct
		r.Direct = &route.DirectAction{Reply: filter.Reply{
			Code: int(a.DirectResponse.Status), Body: a.DirectResponse.GetBody().GetInlineString(), Details: "direct_response",
		}}
	default:
		return e, errors.New("an action is required")
	}
	return e, nil
}
