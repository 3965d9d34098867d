package lua

import (
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// described is a route with metadata, of its own and of its virtual host.
type described interface {
	Configured() (route, host meta.Fields)
}

// configured is the metadata of the filter in the route, or in its virtual host.
func (r *run) configured(ofHost bool) map[string]any {
	d, ok := r.s.Route.(described)
	if !ok {
		return nil
	}
	route, host := d.Configured()
	if ofHost {
		route = host
	}
	if m, ok := route[r.name]; ok {
		return m
	}
	return route[wellKnown]
}

func (h *host) routeMetadata(l *glua.LState, r *run) int {
	r.routed()
	return h.pushMap(l, r.configured(false))
}

// infoMethods are those of the objects that have a name only, by their class.
func (h *host) infoMethods() map[string]methods {
	all := map[string]methods{
		"streamInfo": {},
		"connection": {"ssl": h.on("connection", h.ssl)},
		"connectionStreamInfo": {
			"dynamicMetadata":      h.on("connectionStreamInfo", h.connectionMetadata),
			"dynamicTypedMetadata": h.on("connectionStreamInfo", pushNil),
		},
		"route":       {"metadata": h.on("route", h.routeMetadata)},
		"virtualHost": {"metadata": h.on("virtualHost", func(l *glua.LState, r *run) int { r.routed(); return h.pushMap(l, r.configured(true)) })},
		"dynamicMetadata": {
			"get": h.on("dynamicMetadata", getMetadata),
			"set": h.on("dynamicMetadata", setMetadata),
		},
		"filterState": {"get": h.on("filterState", getState)},
		"ssl":         h.sslMethods(),
	}
	for name, f := range infos {
		all["streamInfo"][name] = h.on("streamInfo", func(l *glua.LState, r *run) int { return pushText(l, f(r)) })
	}
	for name, class := range map[string]string{"dynamicMetadata": "dynamicMetadata", "filterState": "filterState"} {
		all["streamInfo"][name] = h.on("streamInfo", func(l *glua.LState, _ *run) int {
			l.Push(h.single[class])
			return 1
		})
	}
	all["streamInfo"]["downstreamSslConnection"] = h.on("streamInfo", h.ssl)
	all["streamInfo"]["dynamicTypedMetadata"] = h.on("streamInfo", pushNil)
	all["streamInfo"]["drainConnectionUponCompletion"] = h.on("streamInfo", unsupported("drainConnectionUponCompletion()"))
	return all
}

// infos are the texts of streamInfo().
var infos = map[string]func(r *run) string{
	"protocol": func(r *run) string { return r.s.Meta.Protocol.String() },
	"routeName": func(r *run) string {
		r.routed()
		if r.s.Route == nil {
			return ""
		}
		return strings.Clone(r.s.Route.Name())
	},
	"virtualClusterName":            func(r *run) string { return strings.Clone(r.s.Meta.VirtualCluster) },
	"downstreamLocalAddress":        func(r *run) string { return r.s.Conn.Local.String() },
	"downstreamDirectLocalAddress":  func(r *run) string { return r.s.Conn.Local.String() },
	"downstreamDirectRemoteAddress": func(r *run) string { return r.s.Conn.Direct.String() },
	"downstreamRemoteAddress":       func(r *run) string { return r.s.Conn.Remote.String() },
	"requestedServerName":           func(r *run) string { return strings.Clone(r.s.Conn.ServerName) },
}

func pushNil(l *glua.LState, _ *run) int {
	l.Push(glua.LNil)
	return 1
}

// getMetadata is get(namespace) of dynamicMetadata().
func getMetadata(l *glua.LState, r *run) int {
	m := r.s.Metadata.Namespace(l.CheckString(2))
	if m == nil {
		return pushNil(l, r)
	}
	l.Push(toLua(l, m))
	return 1
}

// setMetadata is set(namespace, key, value) of dynamicMetadata().
func setMetadata(l *glua.LState, r *run) int {
	namespace, key := l.CheckString(2), l.CheckString(3)
	r.s.Metadata.Set(namespace, key, fromLua(l, l.Get(4), 0))
	return 0
}

// metadataPairs is __pairs of dynamicMetadata().
func (h *host) metadataPairs(l *glua.LState) int {
	return h.on("dynamicMetadata", func(l *glua.LState, r *run) int { return pushPairs(l, r.s.Metadata.Fields()) })(l)
}

// connectionMetadata is dynamicMetadata() of the connection, which is only read.
func (h *host) connectionMetadata(l *glua.LState, r *run) int {
	m := map[string]any{}
	if r.s.Session != nil {
		for namespace, fields := range r.s.Session.Metadata.Fields() {
			m[namespace] = fields
		}
	}
	return h.pushMap(l, m)
}

// getState is get(name, field) of filterState().
func getState(l *glua.LState, r *run) int {
	object := r.s.FilterState(l.CheckString(2))
	if part := l.OptString(3, ""); part != "" {
		if f, ok := object.(filter.Fields); ok {
			if text, ok := f.Field(part); ok {
				return pushText(l, text)
			}
		}
		return pushNil(l, r)
	}
	if text, ok := filter.StateText(object); ok {
		return pushText(l, text)
	}
	return pushNil(l, r)
}
