package headermutation

import (
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// parse decodes envoy.extensions.filters.http.header_mutation.v3.HeaderMutation.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb headermutationv3.HeaderMutation
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	c, err := mutations(pb.Mutations, p)
	if err != nil {
		return nil, err
	}
	c.SpecificWins = pb.MostSpecificHeaderMutationsWins
	return c, nil
}

// parseRoute decodes envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb headermutationv3.HeaderMutationPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	return mutations(pb.Mutations, p)
}

// mutations converts what both messages have in common; nil changes nothing.
func mutations(pb *headermutationv3.Mutations, p *filter.Parser) (c *Config, err error) {
	c = &Config{}
	if pb == nil {
		return c, nil
	}
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"request_mutations", "response_mutations", "request_trailers_mutations", "response_trailers_mutations", "formatters",
	}})
	if err == nil {
		err = fromproto.Formatters(pb.Formatters)
	}
	if err == nil {
		c.Request, err = fromproto.HeaderMutations(mutate.Request, "request_mutations", pb.RequestMutations)
	}
	if err == nil {
		c.Response, err = fromproto.HeaderMutations(mutate.Response, "response_mutations", pb.ResponseMutations)
	}
	if err == nil {
		c.RequestTrailers, err = fromproto.HeaderMutations(mutate.Request, "request_trailers_mutations", pb.RequestTrailersMutations)
	}
	if err == nil {
		c.ResponseTrailers, err = fromproto.HeaderMutations(mutate.Response, "response_trailers_mutations", pb.ResponseTrailersMutations)
	}
	return c, filter.At("mutations", err)
}
