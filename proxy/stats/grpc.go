package stats

import (
	"strconv"
	"sync/atomic"
)

// GRPCStatus counts gRPC calls by how they ended. Embedded in a struct that is bound it shows
// success, failure and total, and a call's status by its number once there was one. The zero
// value works; counting takes no lock, and no memory except for the first call with a status.
type GRPCStatus struct {
	Success Counter `stat:"success" help:"Calls that ended with the status 0."`
	Failure Counter `stat:"failure" help:"Calls that ended with another status."`
	Total   Counter `stat:"total" help:"Calls that ended with a status."`

	status [17]atomic.Pointer[Counter]
}

// Count counts a call by its status, the text of grpc-status. Numbers that gRPC knows are shown
// in the scope that the struct is bound in; a nil scope shows none.
func (g *GRPCStatus) Count(sc *Scope, status string) {
	g.Total.Inc()
	if status == "0" {
		g.Success.Inc()
	} else {
		g.Failure.Inc()
	}
	n, err := strconv.ParseUint(status, 10, 8)
	if err != nil || n >= uint64(len(g.status)) || sc == nil {
		return
	}
	c := g.status[n].Load()
	if c == nil {
		c = sc.Counter(strconv.FormatUint(n, 10), "Calls that ended with this status.")
		g.status[n].Store(c)
	}
	c.Inc()
}
