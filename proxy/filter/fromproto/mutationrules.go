package fromproto

import (
	rulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// MutationRules converts which fields a service may change; nil has the defaults.
func MutationRules(pb *rulesv3.HeaderMutationRules) (*mutate.Rules, error) {
	r := &mutate.Rules{
		AllowRouting: pb.GetAllowAllRouting().GetValue(), AllowEnvoy: pb.GetAllowEnvoy().GetValue(),
		DisallowSystem: pb.GetDisallowSystem().GetValue(), DisallowAll: pb.GetDisallowAll().GetValue(),
		IsError: pb.GetDisallowIsError().GetValue(),
	}
	if e := pb.GetAllowExpression(); e != nil {
		m, err := Regex(e)
		if err != nil {
			return nil, filter.At("allow_expression", err)
		}
		r.Allow = m.Match
	}
	if e := pb.GetDisallowExpression(); e != nil {
		m, err := Regex(e)
		if err != nil {
			return nil, filter.At("disallow_expression", err)
		}
		r.Disallow = m.Match
	}
	return r, nil
}
