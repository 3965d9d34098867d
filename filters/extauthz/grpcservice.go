package extauthz

import (
	"maps"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
)

// method is what services over gRPC are asked by.
const method = "/envoy.service.auth.v3.Authorization/Check"

// askGRPC asks a service over gRPC: everything about the request is in one message, and so
// is everything about the decision.
func (f *Filter) askGRPC(s *filter.Stream, q *question) (*decision, error) {
	d := &decision{asked: time.Now()}
	message, err := f.checkRequest(s, q)
	if err != nil {
		return d, nil // nothing was decided
	}
	answer, err := f.client.Unary(s.Engine, q.service.grpc, method, s.LogEntry(), message)
	if err != nil {
		return d, call.Ended(err)
	}
	d.decode(answer)
	return d, nil
}

// extensions are the context_extensions of all levels of the route, the most specific last.
func (f *Filter) extensions(s *filter.Stream) (out map[string]string) {
	s.Route.Overrides(f.env.Slot, func(o any) bool {
		if c, ok := o.(*Config); ok && len(c.Route.Extensions) > 0 {
			if out == nil {
				out = map[string]string{}
			}
			maps.Copy(out, c.Route.Extensions)
		}
		return true
	})
	return out
}
