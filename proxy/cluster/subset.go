package cluster

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Subset configures SubsetLB: hosts with the same labels are balanced by themselves
// (LbSubsetConfig).
type Subset struct {
	Fallback            SubsetFallback
	Default             Labels // default_subset
	Selectors           []SubsetSelector
	LocalityWeightAware bool
	ScaleLocalityWeight bool
	PanicModeAny        bool
	ListAsAny           bool
	AllowRedundantKeys  bool
	FallbackList        bool // metadata_fallback_policy FALLBACK_LIST
}

// SubsetSelector makes a subset of every combination of values that hosts have under
// its keys.
type SubsetSelector struct {
	Keys         []string // sorted
	Fallback     SubsetFallback
	FallbackKeys []string // fallback_keys_subset, sorted
	SingleHost   bool     // single_host_per_subset
}

// SubsetFallback says who is picked where no subset matches.
type SubsetFallback uint8

// The fallbacks. NotDefined, for selectors, is that of the whole policy; KeysSubset is for
// selectors only.
const (
	NotDefined SubsetFallback = iota
	NoFallback
	AnyEndpoint
	DefaultSubset
	KeysSubset
)

// subsets are the subsets of the hosts of a moment.
type subsets struct {
	env    *lbEnv
	p      *Subset
	child  *Policy
	set    *hostSet
	whole  *view
	root   subsetNode
	any    *subset // all hosts, nil if nothing falls back on them
	preset *subset // the default subset, likewise
	active int

	lists  sync.Map // fallback_list to []Labels
	listed atomic.Int64
}

// subsetNode is where the labels of a subset lead, one label after the other.
type subsetNode struct {
	next   map[Label]*subsetNode
	subset *subset
}

// subset is hosts that are balanced by themselves. How is made when it is picked from.
type subset struct {
	hosts  []*Host
	single bool // single_host_per_subset

	of     *subsets
	once   sync.Once
	by     balancer
	before balancer // that of the subset until now, if it had one
}

func newSubsets(env *lbEnv, p *Policy, set *hostSet, v *view, before balancer) *subsets {
	old, _ := before.(*subsets)
	s := &subsets{env: env, p: p.Subset, child: p.Child, set: set, whole: v}
	if s.needs(AnyEndpoint) || p.Subset.PanicModeAny {
		s.any = &subset{of: s, hosts: set.all}
	}
	if s.needs(DefaultSubset) {
		s.preset = &subset{of: s}
		for _, h := range set.all {
			if h.matches(p.Subset.Default, p.Subset.ListAsAny) {
				s.preset.hosts = append(s.preset.hosts, h)
			}
		}
	}
	duplicates := s.collect(set.all)
	s.root.each(nil, func(path []Label, one *subset) {
		s.active++
		if old != nil {
			one.follow(old.root.find(path))
		}
	})
	if old != nil {
		s.any.follow(old.any)
		s.preset.follow(old.preset)
	}
	s.count(old, duplicates)
	return s
}

// follow remembers what the same subset was balanced by until now.
func (s *subset) follow(old *subset) {
	if s == nil || old == nil {
		return
	}
	old.once.Do(func() {}) // if it was never picked from, it will not be
	if s.before = old.by; s.before == nil {
		s.before = old.before
	}
}

// balancer returns what the subset is balanced by.
func (s *subset) balancer() balancer {
	s.once.Do(func() {
		of := s.of
		s.by = newBalancer(of.env, of.child, of.set, of.set.subsetView(of, s.hosts), s.before)
		s.before = nil
	})
	return s.by
}

// needs reports whether anything falls back on f.
func (s *subsets) needs(f SubsetFallback) bool {
	return s.p.Fallback == f || slices.ContainsFunc(s.p.Selectors, func(sel SubsetSelector) bool { return sel.Fallback == f })
}

// collect sorts the hosts into subsets. It returns how many were left out because
// their subset has room for one.
func (s *subsets) collect(hosts []*Host) (duplicates int) {
	for _, h := range hosts {
		for i := range s.p.Selectors {
			sel := &s.p.Selectors[i]
			if len(sel.Keys) == 0 {
				continue // selects nothing
			}
			s.root.add(h, sel.Keys, s.p.ListAsAny, func(one *subset) {
				if one.of == nil {
					one.of, one.single = s, sel.SingleHost
				}
				if one.single && len(one.hosts) > 0 {
					duplicates++
					return
				}
				one.hosts = append(one.hosts, h)
			})
		}
	}
	return duplicates
}

// add finds or makes the subsets of a host under a selector's keys, of which it must
// have all.
func (n *subsetNode) add(h *Host, keys []string, listAsAny bool, to func(*subset)) {
	if len(keys) == 0 {
		if n.subset == nil {
			n.subset = &subset{}
		}
		to(n.subset)
		return
	}
	for _, l := range h.values(keys[0], listAsAny) {
		if !h.hasKeys(keys[1:]) {
			return
		}
		next := n.next[l]
		if next == nil {
			if n.next == nil {
				n.next = map[Label]*subsetNode{}
			}
			next = &subsetNode{}
			n.next[l] = next
		}
		next.add(h, keys[1:], listAsAny, to)
	}
}

// each calls f with each subset and the labels that lead to it.
func (n *subsetNode) each(path []Label, f func([]Label, *subset)) {
	if n.subset != nil {
		f(path, n.subset)
	}
	for l, next := range n.next {
		next.each(append(path, l), f)
	}
}

// find returns the subset with exactly those labels, nil if there is none.
func (n *subsetNode) find(labels []Label) *subset {
	for i := range labels {
		if n = n.next[labels[i]]; n == nil {
			return nil
		}
	}
	return n.subset
}

func (h *Host) hasKeys(keys []string) bool {
	for _, k := range keys {
		if len(h.values(k, false)) == 0 {
			return false
		}
	}
	return true
}

// values returns the host's labels with that key: one, or with listAsAny those of the
// values of a list.
func (h *Host) values(key string, listAsAny bool) []Label {
	from := slices.IndexFunc(h.labels, func(l Label) bool { return l.Key == key })
	if from < 0 {
		return nil
	}
	if _, isList := h.Metadata[lbNamespace][key].([]any); !isList || !listAsAny {
		return h.labels[from : from+1]
	}
	var each []Label // the whole list comes first, its values at the end
	for i := range h.labels {
		if i != from && h.labels[i].Key == key {
			each = append(each, h.labels[i])
		}
	}
	return each
}

// matches reports whether a host has all labels.
func (h *Host) matches(want Labels, listAsAny bool) bool {
	for i := range want {
		if !slices.Contains(h.values(want[i].Key, listAsAny), want[i]) && !slices.Contains(h.values(want[i].Key, false), want[i]) {
			return false
		}
	}
	return true
}

// count shows how the subsets changed.
func (s *subsets) count(old *subsets, duplicates int) {
	st := &s.env.core.lb
	st.LBSubsetsSingleDuplicate.Set(int64(duplicates))
	st.LBSubsetsActive.Set(int64(s.active))
	if old == nil {
		st.LBSubsetsCreated.Add(uint64(s.active))
		return
	}
	kept := 0
	s.root.each(nil, func(path []Label, _ *subset) {
		if old.root.find(path) != nil {
			kept++
		}
	})
	st.LBSubsetsCreated.Add(uint64(s.active - kept))
	st.LBSubsetsRemoved.Add(uint64(old.active - kept))
}

// subsetView is the view of some of the hosts, with the weights of localities as the
// policy has them.
func (set *hostSet) subsetView(of *subsets, hosts []*Host) *view {
	top := set.some(hosts)
	for i := range top {
		m := &top[i]
		if !of.p.LocalityWeightAware {
			m.weights = false
			continue
		}
		if !of.p.ScaleLocalityWeight {
			continue
		}
		for j := range m.localities {
			l, n := &m.localities[j], len(set.top[i].localities[j].hosts)
			if n > 0 {
				l.weight = uint32(math.Round(float64(float32(l.weight) * float32(len(l.hosts)) / float32(n))))
			}
		}
	}
	return newView(of.env, top, of.whole.policy)
}
