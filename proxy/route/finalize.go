package route

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Mutations are the header changes of one level.
type Mutations struct{}

type override struct {
	slot  filter.Slot
	value any
}

type slotFlag struct {
	slot     filter.Slot
	disabled bool
}

// WeightedClusters is a choice by weight.
type WeightedClusters struct{}

// Name implements filter.Route.
func (r *Route) Name() string { return r.RouteName }

// Override implements filter.Route.
func (r *Route) Override(s filter.Slot) any {
	for i := len(r.overrides) - 1; i >= 0; i-- {
		if r.overrides[i].slot == s {
			return r.overrides[i].value
		}
	}
	return nil
}

// Overrides implements filter.Route.
func (r *Route) Overrides(s filter.Slot, yield func(any) bool) {
	for _, o := range r.overrides {
		if o.slot == s && !yield(o.value) {
			return
		}
	}
}

// Disabled implements filter.Route.
func (r *Route) Disabled(s filter.Slot) (disabled, set bool) {
	for _, f := range r.disabled {
		if f.slot == s {
			disabled, set = f.disabled, true
		}
	}
	return disabled, set
}

// Upgrade says whether the route has a say in that type of upgrade.
func (r *Route) Upgrade(typ string) (enabled, set bool) {
	if r.Forward == nil {
		return false, false
	}
	for _, u := range r.Forward.Upgrades {
		if u.Type == typ {
			return u.Enabled, true
		}
	}
	return false, false
}

// ClusterName chooses the cluster for a request.
func (r *Route) ClusterName(s *filter.Stream) string { return r.Forward.Cluster }

// RedirectReply is the answer of a Redirect route.
func (r *Route) RedirectReply(s *filter.Stream) *filter.Reply {
	return &filter.Reply{Code: r.Redirect.Code}
}

// DirectReply is the answer of a Direct route.
func (r *Route) DirectReply(s *filter.Stream) *filter.Reply { return &r.Direct.Reply }

// FinalizeRequest makes of the request head what upstream is to see: rewrites and
// header mutations of route, virtual host and table.
func (r *Route) FinalizeRequest(s *filter.Stream) error { return nil }

// FinalizeResponse applies the response mutations.
func (r *Route) FinalizeResponse(s *filter.Stream) error { return nil }

// ParseRetryOn reads a comma-separated list of retry conditions; unknown ones are ignored.
func ParseRetryOn(list string) RetryOn { return 0 }

// ParseCodes reads a comma-separated list of status codes; what is none is ignored.
func ParseCodes(list string) []int { return nil }
