package route

import (
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// Decorator names what a route does, for traces and for whoever logs (Decorator).
type Decorator struct {
	Operation string
	Propagate bool // tells the other side in x-envoy-decorator-operation
}

// Trace implements trace.Routed.
func (r *Route) Trace() *trace.Route { return r.Tracing }

// Decoration is what the route calls the operation, and whether the other side is told.
func (r *Route) Decoration() (operation string, propagate bool) {
	if r.Decorator == nil {
		return "", false
	}
	return r.Decorator.Operation, r.Decorator.Propagate
}

// Configured returns the metadata of the route and of its virtual host, for access logs.
func (r *Route) Configured() (route, host meta.Fields) {
	if r.VirtualHost != nil {
		host = r.VirtualHost.Metadata
	}
	return r.Metadata, host
}

// FindMetadata returns a value in the metadata of the route, nil if there is none.
func (r *Route) FindMetadata(namespace string, path ...string) any {
	return find(r.Metadata, namespace, path)
}

// FindMetadata returns a value in the metadata of the virtual host, nil if there is none.
func (vh *VirtualHost) FindMetadata(namespace string, path ...string) any {
	return find(vh.Metadata, namespace, path)
}

func find(in map[string]map[string]any, namespace string, path []string) any {
	values := in[namespace]
	if values == nil {
		return nil
	}
	v := any(values)
	for _, key := range path {
		fields, _ := v.(map[string]any)
		v = fields[key]
	}
	return v
}

// RateLimits implements ratelimit.Routed.
func (r *Route) RateLimits() (own, host ratelimit.Limits, include bool) {
	if r.VirtualHost != nil {
		host = r.VirtualHost.Limits
	}
	return r.Limits, host, r.IncludeHostLimits
}

var (
	_ ratelimit.Routed = (*Route)(nil)
	_ trace.Routed     = (*Route)(nil)
)
