package l7

import "github.com/mecha-mesh/mecha/proxy/header"

// decorated is a route that names what it does (Route.decorator).
type decorated interface {
	Decoration() (operation string, propagate bool)
}

// decorated reports whether the two sides tell each other what they call the operation: not
// where a format names it (Tracing.operation).
func (st *stream) decorated() bool {
	return st.m.traces != nil && !st.m.traces.HasOperation(st.routeTrace())
}

// decorate takes the client's word for the operation, or tells upstream the route's.
func (st *stream) decorate() {
	if !st.decorated() {
		return
	}
	defer func() { st.Span.SetName(st.Meta.Operation) }()
	r, ok := st.Route.(decorated)
	if !ok {
		return
	}
	operation, propagate := r.Decoration()
	st.Meta.Operation = operation
	m := &st.Request
	if st.m.outbound {
		if operation != "" && propagate {
			m.SetID(header.XEnvoyDecoratorOperation, operation)
		}
		return
	}
	if theirs := m.Value(header.XEnvoyDecoratorOperation); theirs != "" {
		st.Meta.Operation = theirs
		m.DelID(header.XEnvoyDecoratorOperation)
		return
	}
	if propagate {
		st.operation = operation
	}
}

// decorateResponse tells the client the operation that it has not named itself, or takes
// upstream's word for it.
func (st *stream) decorateResponse() {
	m := &st.Response
	switch {
	case !st.decorated():
	case st.m.outbound:
		if theirs := m.Value(header.XEnvoyDecoratorOperation); theirs != "" {
			st.Meta.Operation = theirs
		}
		m.DelID(header.XEnvoyDecoratorOperation)
	case st.operation != "":
		m.SetID(header.XEnvoyDecoratorOperation, st.operation)
	}
}
