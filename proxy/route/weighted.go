package route

import (
	"errors"
	"math"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Weighted is a choice among routes that differ in their cluster (WeightedCluster).
type Weighted struct {
	routes []*Route
	ends   []uint64 // sum of the weights up to and including each route
	header string   // header_name: where the request brings its number, "" for by chance
}

// NewWeighted makes a choice. Weights may be zero, but not all of them, and their sum
// must fit into 32 bits. header is lower case, "" for none.
func NewWeighted(routes []*Route, weights []uint32, header string) (*Weighted, error) {
	w := &Weighted{routes: routes, header: header}
	sum := uint64(0)
	for _, n := range weights {
		sum += uint64(n)
		w.ends = append(w.ends, sum)
	}
	switch {
	case sum == 0:
		return nil, errors.New("the sum of the weights must be more than zero")
	case sum > math.MaxUint32:
		return nil, errors.New("the sum of the weights does not fit into 32 bits")
	}
	return w, nil
}

// pick returns the same route each time it is asked for the same stream.
func (w *Weighted) pick(s *filter.Stream) *Route {
	number := s.Random()
	if w.header != "" {
		if n, err := strconv.ParseUint(s.Request.Get(w.header), 10, 64); err == nil {
			number = n
		}
	}
	at := number % w.ends[len(w.ends)-1]
	for i, end := range w.ends {
		if at < end {
			return w.routes[i]
		}
	}
	return w.routes[len(w.routes)-1]
}
