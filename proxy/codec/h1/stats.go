package h1

import "github.com/mecha-mesh/mecha/proxy/stats"

// Stats are the statistics of HTTP/1 connections of clients, http1.* in the scope of a
// listener's connection manager. The caller binds them.
type Stats struct {
	DroppedUnderscores  stats.Counter `stat:"dropped_headers_with_underscores" help:"Header fields dropped because of an underscore in the name"`
	RejectedUnderscores stats.Counter `stat:"requests_rejected_with_underscores_in_headers" help:"Requests refused because of an underscore in the name of a field"`
}

// underscored counts a field with an underscore in its name.
func (st *Stats) underscored(refused bool) {
	switch {
	case st == nil:
	case refused:
		st.RejectedUnderscores.Inc()
	default:
		st.DroppedUnderscores.Inc()
	}
}
