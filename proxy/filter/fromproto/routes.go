package fromproto

import (
	"errors"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// tableFields is what of RouteConfiguration this build obeys. What is ignored is
// about statistics and shadow traffic, or checks that xDS makes elsewhere: requests
// take the same way without it.
func tableFields() Fields {
	return Fields{
		Used: []string{
			"name", "virtual_hosts", "response_headers_to_add", "response_headers_to_remove", "request_headers_to_add",
			"request_headers_to_remove", "most_specific_header_mutations_wins", "validate_clusters",
			"max_direct_response_body_size_bytes", "ignore_port_in_host_matching", "typed_per_filter_config", "metadata",
			"internal_only_headers", "vhost_header", "ignore_path_parameters_in_path_matching", "cluster_specifier_plugins",
			"request_mirror_policies",
		},
	}
}

// hostFields is tableFields for VirtualHost.
func hostFields() Fields {
	return Fields{
		Used: []string{
			"name", "domains", "routes", "require_tls", "request_headers_to_add", "request_headers_to_remove",
			"response_headers_to_add", "response_headers_to_remove", "typed_per_filter_config",
			"include_request_attempt_count", "include_attempt_count_in_response", "retry_policy",
			"per_request_buffer_limit_bytes", "request_body_buffer_limit", "metadata",
			"include_is_timeout_retry_header", "virtual_clusters", "rate_limits", "hedge_policy", "request_mirror_policies",
			"matcher",
		},
		Ignored: []string{"cors"},
	}
}

// maxDirectBody is how long the body of a direct response may be unless
// max_direct_response_body_size_bytes says otherwise.
const maxDirectBody = 4096

// tableBuilder converts one RouteConfiguration.
type tableBuilder struct {
	p            *filter.Parser
	bodyLimit    int
	specificWins bool // most_specific_header_mutations_wins
	table        level
	plugins      map[string]bool // names of cluster_specifier_plugins
	validate     bool            // validate_clusters
	shadows      []*route.Mirror
}

// hostBuilder converts one virtual host.
type hostBuilder struct {
	*tableBuilder
	pb    *routev3.VirtualHost
	vh    *route.VirtualHost // which is being made
	host  level
	retry *route.RetryPolicy
	// mirrors are those of the virtual host or, if it has none, of the table.
	mirrors []*route.Mirror
}

// level is what table, virtual host, route and weighted cluster each may have.
type level struct {
	request, response *mutate.Headers
	perFilter         []route.PerFilter
}

// leveled is any of the four messages.
type leveled interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
	GetTypedPerFilterConfig() map[string]*anypb.Any
}

func (b *tableBuilder) level(pb leveled) (l level, err error) {
	if l.request, err = Mutations(mutate.Request, pb.GetRequestHeadersToAdd(), pb.GetRequestHeadersToRemove()); err != nil {
		return l, err
	}
	if l.response, err = Mutations(mutate.Response, pb.GetResponseHeadersToAdd(), pb.GetResponseHeadersToRemove()); err != nil {
		return l, err
	}
	l.perFilter, err = perFilter(pb.GetTypedPerFilterConfig(), b.p)
	return l, err
}

// Routes compiles a RouteConfiguration that was delivered by itself: its clusters may come
// later, unless validate_clusters says otherwise.
func Routes(raw []byte, p *filter.Parser) (filter.RouteTable, error) { return compile(raw, p, false) }

// InlineRoutes is Routes for a RouteConfiguration inside of something else, whose clusters
// must be there. It is what Parser.Routes is set to.
func InlineRoutes(raw []byte, p *filter.Parser) (filter.RouteTable, error) {
	return compile(raw, p, true)
}

func compile(raw []byte, p *filter.Parser, validate bool) (filter.RouteTable, error) {
	if rest, parts := splitTable(raw); len(parts) > fewHosts {
		return asTable(compileMany(rest, raw, parts, p, validate))
	}
	var pb routev3.RouteConfiguration
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	return asTable(routes(&pb, p, validate))
}

// asTable keeps a table that is nil from becoming an interface that is not.
func asTable(t *route.Table, err error) (filter.RouteTable, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}

func routes(pb *routev3.RouteConfiguration, p *filter.Parser, validate bool) (*route.Table, error) {
	_, hosts, err := tableParts(pb, p, validate)
	if err != nil {
		return nil, err
	}
	return route.NewTable(pb.Name, hosts, tableOptions(pb))
}

// tableParts compiles the virtual hosts of a table, and returns what others need that are
// to be in it.
func tableParts(pb *routev3.RouteConfiguration, p *filter.Parser, validate bool) (*tableBuilder, []*route.VirtualHost, error) {
	if err := Check(pb, p, tableFields()); err != nil {
		return nil, nil, err
	}
	b := &tableBuilder{p: p, bodyLimit: maxDirectBody, specificWins: pb.MostSpecificHeaderMutationsWins, validate: validate}
	if v := pb.ValidateClusters; v != nil {
		b.validate = v.Value
	}
	if v := pb.MaxDirectResponseBodySizeBytes; v != nil {
		b.bodyLimit = int(v.Value)
	}
	var err error
	if b.table, err = b.level(pb); err != nil {
		return nil, nil, err
	}
	if err := b.specifierPlugins(pb.ClusterSpecifierPlugins); err != nil {
		return nil, nil, err
	}
	if b.shadows, err = b.mirrorsOf(pb.RequestMirrorPolicies); err != nil {
		return nil, nil, err
	}
	var hosts []*route.VirtualHost
	for i, v := range pb.VirtualHosts {
		vh, err := b.virtualHost(v)
		if err != nil {
			return nil, nil, filter.AtIndex("virtual_hosts", i, err)
		}
		hosts = append(hosts, vh)
	}
	return b, hosts, nil
}

func tableOptions(pb *routev3.RouteConfiguration) route.Options {
	o := route.Options{IgnorePort: pb.IgnorePortInHostMatching, IgnoreParams: pb.IgnorePathParametersInPathMatching}
	if pb.VhostHeader != "" {
		o.HostHeader = match.HeaderName(pb.VhostHeader)
	}
	for _, name := range pb.InternalOnlyHeaders {
		o.InternalOnly = append(o.InternalOnly, match.HeaderName(name))
	}
	return o
}

func (b *tableBuilder) virtualHost(pb *routev3.VirtualHost) (*route.VirtualHost, error) {
	if err := Check(pb, b.p, hostFields()); err != nil {
		return nil, err
	}
	h := &hostBuilder{tableBuilder: b, pb: pb}
	var err error
	if h.host, err = b.level(pb); err != nil {
		return nil, err
	}
	if h.retry, err = retryPolicy(pb.RetryPolicy, b.p); err != nil {
		return nil, filter.At("retry_policy", err)
	}
	vh := &route.VirtualHost{
		Name: pb.Name, Domains: pb.Domains, RequireTLS: route.RequireTLS(pb.RequireTls), Metadata: FilterMetadata(pb.Metadata),
	}
	h.vh = vh
	if vh.Limits, err = RateLimits(pb.RateLimits, b.p); err != nil {
		return nil, err
	}
	if err := h.virtualClusters(vh); err != nil {
		return nil, err
	}
	if h.mirrors = b.shadows; len(pb.RequestMirrorPolicies) > 0 {
		if h.mirrors, err = b.mirrorsOf(pb.RequestMirrorPolicies); err != nil {
			return nil, err
		}
	}
	if vh.Routes, err = h.entries(pb.Routes); err != nil {
		return nil, err
	}
	if err := h.tree(); err != nil {
		return nil, err
	}
	return vh, nil
}

func routeFields() Fields {
	return Fields{
		Used: []string{
			"name", "match", "route", "redirect", "direct_response", "metadata", "typed_per_filter_config",
			"request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove",
			"per_request_buffer_limit_bytes", "request_body_buffer_limit", "stat_prefix", "non_forwarding_action",
			"decorator", "tracing",
		},
	}
}

// entry converts a Route.
func (b *hostBuilder) entry(pb *routev3.Route) (e route.Entry, err error) {
	if err := Check(pb, b.p, routeFields()); err != nil {
		return e, err
	}
	if e.Match, err = routeMatch(pb.GetMatch(), b.p); err != nil {
		return e, filter.At("match", err)
	}
	own, err := b.level(pb)
	if err != nil {
		return e, err
	}
	r := &route.Route{RouteName: pb.Name, StatPrefix: pb.StatPrefix, Metadata: FilterMetadata(pb.Metadata)}
	b.assemble(r, own, nil)
	if err := b.describe(r, pb); err != nil {
		return e, err
	}
	switch a := pb.Action.(type) {
	case *routev3.Route_Route:
		if r.Forward, err = b.forward(a.Route, pb, e.Match.Path.Template()); err != nil {
			return e, filter.At("route", err)
		}
		if r.Forward.NoCluster {
			return e, nil
		}
		if w := a.Route.GetWeightedClusters(); w != nil {
			e.Weighted, err = b.weighted(w, r, own)
			return e, filter.At("route.weighted_clusters", err)
		}
	case *routev3.Route_NonForwardingAction:
		r.Forward = &route.ForwardAction{NoCluster: true}
	case *routev3.Route_FilterAction:
		return e, filter.At("filter_action", errors.New("this build does not support it, as Envoy does not"))
	case *routev3.Route_Redirect:
		r.Kind = route.Redirect
		if r.Redirect, err = redirect(a.Redirect, b.p); err != nil {
			return e, filter.At("redirect", err)
		}
	case *routev3.Route_DirectResponse:
		r.Kind = route.Direct
		if r.Direct, err = b.direct(a.DirectResponse); err != nil {
			return e, filter.At("direct_response", err)
		}
	case nil:
		return e, errors.New("one of route, redirect, direct_response, non_forwarding_action must be set")
	default:
		return e, fmt.Errorf("this build does not support the action %T", a)
	}
	e.Route = r
	return e, nil
}

// assemble gives r what the levels above it, it itself, and maybe a weighted cluster
// say.
func (b *hostBuilder) assemble(r *route.Route, own level, weighted *level) {
	levels := []level{b.table, b.host, own}
	if !b.specificWins {
		slices.Reverse(levels) // the least specific level has the last word
	}
	if weighted != nil {
		levels = slices.Insert(levels, 0, *weighted) // never the last word
	}
	r.RequestMutations, r.ResponseMutations = nil, nil
	r.PerFilter = slices.Concat(b.table.perFilter, b.host.perFilter, own.perFilter)
	if weighted != nil {
		r.PerFilter = append(r.PerFilter, weighted.perFilter...)
	}
	for _, l := range levels {
		if l.request != nil {
			r.RequestMutations = append(r.RequestMutations, l.request)
		}
		if l.response != nil {
			r.ResponseMutations = append(r.ResponseMutations, l.response)
		}
	}
}
