package mutate

import "strings"

// Rules is which fields an external service may change (HeaderMutationRules of
// envoy.config.common.mutation_rules.v3).
type Rules struct {
	AllowRouting    bool                   // allow_all_routing
	AllowEnvoy      bool                   // allow_envoy
	DisallowSystem  bool                   // disallow_system
	DisallowAll     bool                   // disallow_all
	Allow, Disallow func(name string) bool // expressions; nil: none
	IsError         bool                   // disallow_is_error: what is not allowed spoils the whole answer
}

// MaySet reports whether a field, whose name is in lower case, may be set.
func (r *Rules) MaySet(name string) bool {
	switch {
	case r.Disallow != nil && r.Disallow(name):
		return false
	case r.Allow != nil && r.Allow(name):
		return true
	case r.DisallowAll, r.DisallowSystem && strings.HasPrefix(name, ":"):
		return false
	case strings.HasPrefix(name, "x-envoy"):
		return r.AllowEnvoy
	}
	switch name {
	case "host", ":authority", ":scheme", ":method":
		return r.AllowRouting
	}
	return true
}

// MayRemove reports whether a field may be removed. Those that a message cannot be without
// never may.
func (r *Rules) MayRemove(name string) bool {
	return !strings.HasPrefix(name, ":") && name != "host" && r.MaySet(name)
}
