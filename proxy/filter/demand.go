package filter

import (
	"context"
	"time"
)

// WantedKind is what kind of thing a request may wait for.
type WantedKind uint8

// The kinds.
const (
	WantedCluster WantedKind = iota // ODCDS
	WantedHost                      // VHDS
	WantedScope                     // the table of an on-demand scope (SRDS)
)

// Wanted names something that is not there and can be asked for while a request waits.
type Wanted struct {
	Kind WantedKind
	// From is, of a cluster, ConfigSource.API; of a virtual host the name of its route
	// table; of a scope its key in Parser.SRDS.
	From string
	Name string // of the cluster, the host of the request, the key of the scope
}

// Demand asks for what is not there. It is safe for concurrent use.
type Demand interface {
	// Wait asks for w and waits until it is there, which it reports, until it is known not
	// to exist, or until timeout or ctx end. When too many wait it does not. The strings of
	// w may be lent.
	Wait(ctx context.Context, w Wanted, timeout time.Duration) (found bool)
}

// Demander is a RouteTable that may get what it needs for a stream if it is asked for.
type Demander interface {
	// Wanted is called for a stream that has no route. What it returns is lent as long as
	// the request head is.
	Wanted(s *Stream) (w Wanted, ok bool)
}
