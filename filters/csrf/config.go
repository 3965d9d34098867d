package csrf

import (
	csrfv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/csrf/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// parse decodes envoy.extensions.filters.http.csrf.v3.CsrfPolicy.
func parse(raw []byte, p *filter.Parser) (*Policy, error) {
	var pb csrfv3.CsrfPolicy
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"filter_enabled", "shadow_enabled", "additional_origins"}}); err != nil {
		return nil, err
	}
	c := &Policy{
		Enabled: fromproto.RuntimeFractional(pb.FilterEnabled, runtime.Fraction{Numerator: 100, Denominator: 100}).On(p.Runtime),
		Shadow:  fromproto.RuntimeFractional(pb.ShadowEnabled, runtime.Fraction{Denominator: 100}).On(p.Runtime),
	}
	var err error
	c.Origins, err = fromproto.StringList("additional_origins", pb.AdditionalOrigins)
	return c, err
}
