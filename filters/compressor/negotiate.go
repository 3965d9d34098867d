package compressor

import (
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// The compressors of a chain know of each other: the first one that could compress a
// response decides for all in which coding.

// offer is a compressor of the chain.
type offer struct {
	coding    string
	direction *ResponseDirection
	first     bool
}

// offers are the compressors of a stream, in the order of the chain, and what was decided.
type offers struct {
	list    []*offer
	decided bool
	choice  string
	why     reason
}

// reason is what of accept-encoding has decided.
type reason uint8

const (
	notValid reason = iota
	identity
	wildcard
	named
)

// stateKey is where the offers of a stream are.
const stateKey = "compressors"

func (o *offers) reset() {
	clear(o.list)
	o.list, o.decided, o.choice = o.list[:0], false, ""
}

// join puts the filter into the list of the stream; the first one brings the list.
func (f *Filter) join(s *filter.Stream) {
	f.own = offer{f.library.Coding, &f.config.Response, f.config.First}
	all, ok := s.State.Get(stateKey).(*offers)
	if !ok {
		all = &f.all
		s.State.Set(stateKey, all)
	}
	all.list = append(all.list, &f.own)
}

// wanted reports whether the client wants this filter's coding. Where nothing will be
// compressed anyway, nothing is counted.
func (f *Filter) wanted(s *filter.Stream, could bool) bool {
	if !could {
		return false
	}
	n := f.negotiated
	all, ok := s.State.Get(stateKey).(*offers)
	if !f.accepts || !ok {
		n.NoAccept.Inc()
		return false
	}
	if !all.decided {
		all.decide(f.accept, &s.Response)
	}
	won := strings.EqualFold(f.own.coding, all.choice)
	switch all.why {
	case named:
		if won {
			n.Used.Inc()
		} else {
			n.Overshadowed.Inc()
		}
	case identity:
		n.Identity.Inc()
	case wildcard:
		n.Wildcard.Inc()
	default:
		n.NotValid.Inc()
	}
	return won
}

// decide chooses among the codings that accept-encoding lists and somebody offers the one
// with the highest weight (RFC 9110 12.5.3).
func (o *offers) decide(accept string, m *header.Map) {
	o.decided, o.choice, o.why = true, "identity", notValid
	best, choice, anything := 0.0, "identity", false
	for rest := accept; rest != ""; {
		var name string
		var q float64
		var ok bool
		if name, q, ok, rest = cutCoding(rest); !ok {
			continue
		}
		anything = true
		of := o.offered(name, accept, m)
		if of == nil && name != "identity" && name != "*" {
			continue
		}
		if q > best || q == best && of != nil && of.first {
			best, choice = q, name
		}
	}
	first := o.offered("*", accept, m)
	switch {
	case !anything || first == nil || best == 0:
	case choice == "identity":
		o.why = identity
	case choice == "*":
		o.choice, o.why = first.coding, wildcard
	default:
		o.choice, o.why = choice, named
	}
}

// offered returns the first compressor with that coding, or "*" any, which may compress
// this response and is not excluded by a weight of 0.
func (o *offers) offered(coding, accept string, m *header.Map) *offer {
	for _, of := range o.list {
		if coding != "*" && of.coding != coding || excluded(of.coding, accept) {
			continue
		}
		if t := mediaType(m); t == "" || of.direction.allows(t) {
			return of
		}
	}
	return nil
}

func excluded(coding, accept string) bool {
	for rest := accept; rest != ""; {
		var name string
		var q float64
		var ok bool
		if name, q, ok, rest = cutCoding(rest); ok && q == 0 && name == coding {
			return true
		}
	}
	return false
}

// cutCoding takes the first element off accept-encoding. One with a weight that is no
// number is not ok, and neither is an empty one.
func cutCoding(list string) (name string, q float64, ok bool, rest string) {
	token, rest, _ := strings.Cut(list, ",")
	name, params, _ := strings.Cut(token, ";")
	name = strings.TrimSpace(name)
	q = 1
	key, value, has := strings.Cut(params, "=")
	if has && strings.EqualFold(strings.TrimSpace(key), "q") {
		var err error
		if q, err = strconv.ParseFloat(strings.TrimSpace(value), 32); err != nil {
			return name, 0, false, rest
		}
	}
	return name, q, token != "", rest
}
