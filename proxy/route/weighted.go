package route

import (
	"errors"
	"math"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Weighted is a choice among routes that differ in their cluster (WeightedCluster).
type Weighted struct {
	routes  []*Route
	ends    []uint64 // sum of the weights up to and including each route
	weights []runtime.UintValue
	dynamic bool   // the weights may be other ones at run time
	header  string // header_name: where the request brings its number, "" for by chance
	byHash  bool
}

// Share is a route and how much of the traffic it gets.
type Share struct {
	Route  *Route
	Weight runtime.UintSetting
}

// WeightedOptions are how a choice is made.
type WeightedOptions struct {
	Header  string           // header_name, lower case: where the request brings its number
	ByHash  bool             // use_hash_policy: the number is the hash of the route's hash policies
	Runtime *runtime.Runtime // of the weights with keys
}

// NewWeighted makes a choice. Weights may be zero, but not all of them, and their sum
// must fit into 32 bits.
func NewWeighted(shares []Share, o WeightedOptions) (*Weighted, error) {
	w := &Weighted{header: o.Header, byHash: o.ByHash}
	sum := uint64(0)
	for _, s := range shares {
		sum += s.Weight.Default
		w.routes, w.ends = append(w.routes, s.Route), append(w.ends, sum)
		w.weights = append(w.weights, s.Weight.On(o.Runtime))
		w.dynamic = w.dynamic || s.Weight.Key != "" && o.Runtime != nil
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
	number := w.number(s)
	if w.dynamic {
		if r := w.pickNow(number); r != nil {
			return r
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

// pickNow is pick by the weights of now; nil if they are all zero, or have changed
// meanwhile.
func (w *Weighted) pickNow(number uint64) *Route {
	sum := uint64(0)
	for i := range w.weights {
		sum += w.weights[i].Get()
	}
	if sum == 0 {
		return nil
	}
	at := number % sum
	for i := range w.weights {
		n := w.weights[i].Get()
		if at < n {
			return w.routes[i]
		}
		at -= n
	}
	return nil
}

// number is what decides: that of the header, if there is exactly one field, the hash,
// or chance.
func (w *Weighted) number(s *filter.Stream) uint64 {
	if w.header != "" && s.Request.Count(w.header) == 1 {
		if n, err := strconv.ParseUint(s.Request.Get(w.header), 10, 64); err == nil {
			return n
		}
	}
	if f := w.routes[0].Forward; w.byHash && f != nil {
		if h, _, ok := f.hash(s, false); ok { // a cookie is set when the host is chosen
			return h
		}
	}
	return s.Random()
}
