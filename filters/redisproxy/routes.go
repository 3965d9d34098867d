package redisproxy

import (
	"slices"

	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// routes say which cluster a key belongs to: that of its longest prefix.
type routes struct {
	byPrefix map[string]*route
	lengths  []int    // of the prefixes, longest first
	clusters []string // each once, in the order of the configuration
	fold     bool     // case_insensitive
	rest     *route
}

type route struct {
	prefix  string
	cluster string
	remove  bool // the prefix does not reach the host
	mirrors []mirror
	reads   string // the cluster for commands that only read, "" is cluster
}

type mirror struct {
	cluster string
	share   runtime.FractionSetting
	writes  bool // exclude_read_commands
}

// add is for a prefix that is not there yet; it reports false if it is.
func (r *routes) add(to *route) bool {
	if r.byPrefix == nil {
		r.byPrefix = map[string]*route{}
	}
	key := to.prefix
	if r.fold {
		key = string(lower(nil, []byte(key)))
	}
	if r.byPrefix[key] != nil {
		return false
	}
	r.byPrefix[key] = to
	r.name(to)
	if !slices.Contains(r.lengths, len(key)) {
		r.lengths = append(r.lengths, len(key))
		slices.SortFunc(r.lengths, func(a, b int) int { return b - a })
	}
	return true
}

// otherwise makes to the route of keys without one (catch_all_route), which has no prefix.
func (r *routes) otherwise(to *route) {
	to.prefix, to.remove = "", false
	r.rest = to
	r.name(to)
}

func (r *routes) name(to *route) {
	if !slices.Contains(r.clusters, to.cluster) {
		r.clusters = append(r.clusters, to.cluster)
	}
}

// of returns the route of a key, nil if there is none.
func (r *routes) of(key []byte) *route {
	if len(r.lengths) > 0 {
		if r.fold {
			key = lower(make([]byte, 0, r.lengths[0]), key[:min(len(key), r.lengths[0])])
		}
		for _, n := range r.lengths {
			if n > len(key) {
				continue
			}
			if to := r.byPrefix[string(key[:n])]; to != nil {
				return to
			}
		}
	}
	return r.rest
}

// strips reports whether there is a route that removes its prefix.
func (r *routes) strips() bool {
	for _, to := range r.byPrefix {
		if to.remove {
			return true
		}
	}
	return false
}

func lower(dst, text []byte) []byte {
	for _, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// stem returns the part of a key that is hashed: what is between the first { and the next
// }, if that is not empty, as Redis Cluster has it.
func stem(key []byte) []byte {
	open := slices.Index(key, '{')
	if open < 0 {
		return key
	}
	if n := slices.Index(key[open+1:], '}'); n > 0 {
		return key[open+1 : open+1+n]
	}
	return key
}
