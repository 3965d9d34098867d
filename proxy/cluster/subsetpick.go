package cluster

import "strings"

// fallbackListKey is the label whose value is a list of labels that are tried one after
// the other (metadata_fallback_policy).
const fallbackListKey = "fallback_list"

// maxFallbacks bounds how often a selector's fallback leads to another selector.
const maxFallbacks = 8

// pick chooses a host; nil if there is none.
func (s *subsets) pick(a *Attempt, attempt int) (h *Host, panicked bool) {
	if a == nil || len(a.Match) == 0 {
		return s.fallback(a, attempt)
	}
	if s.p.FallbackList {
		if value, ok := a.Match.Get(fallbackListKey); ok {
			return s.tryList(s.fallbacks(value), a, attempt)
		}
	}
	return s.match(a.Match, a, attempt, 0)
}

// maxLists bounds how many fallback lists are remembered in the form in which they are
// used.
const maxLists = 1024

// fallbacks returns the labels of a fallback_list.
func (s *subsets) fallbacks(value string) []Labels {
	if l, ok := s.lists.Load(value); ok {
		return l.([]Labels)
	}
	l := listOfLabels(value)
	if s.listed.Add(1) <= maxLists {
		s.lists.Store(strings.Clone(value), l)
	}
	return l
}

// tryList picks where the labels match that become of those of the attempt with each
// entry of a list, in turn.
func (s *subsets) tryList(list []Labels, a *Attempt, attempt int) (h *Host, panicked bool) {
	var few, more [8]Label
	base := Labels(few[:0])
	for i := range a.Match {
		if a.Match[i].Key != fallbackListKey {
			base = append(base, a.Match[i])
		}
	}
	if len(list) == 0 {
		return s.match(base, a, attempt, 0)
	}
	for _, one := range list {
		if h, panicked = s.match(base.mergeInto(more[:0], one), a, attempt, 0); h != nil {
			return h, panicked
		}
	}
	return nil, panicked
}

// match picks in the subset of some labels, or where the selector of their keys falls
// back to.
func (s *subsets) match(labels Labels, a *Attempt, attempt, depth int) (h *Host, panicked bool) {
	if len(labels) == 0 {
		return s.fallback(a, attempt)
	}
	var few [8]Label
	if s.p.AllowRedundantKeys {
		for i := range s.p.Selectors {
			if own := labels.only(s.p.Selectors[i].Keys, few[:0]); len(own) == len(s.p.Selectors[i].Keys) {
				labels = own
				break
			}
		}
	}
	if one := s.root.find(labels); one != nil {
		if attempt == 0 {
			s.env.core.lb.LBSubsetsSelected.Inc()
		}
		return one.pick(a, attempt)
	}
	sel := s.selector(labels)
	if sel == nil || sel.Fallback == NotDefined {
		return s.fallback(a, attempt)
	}
	switch sel.Fallback {
	case AnyEndpoint:
		return s.any.pick(a, attempt)
	case DefaultSubset:
		return s.preset.pick(a, attempt)
	case KeysSubset:
		if depth < maxFallbacks {
			var less [8]Label
			return s.match(labels.only(sel.FallbackKeys, less[:0]), a, attempt, depth+1)
		}
	}
	return nil, false
}

// pick chooses among the hosts of a subset.
func (s *subset) pick(a *Attempt, attempt int) (h *Host, panicked bool) {
	if s.single {
		return s.hosts[0].unlessUnhealthy(), false
	}
	by := s.balancer()
	if by == nil { // the hosts changed before anybody picked from it
		return nil, false
	}
	return by.pick(a, attempt)
}

// unlessUnhealthy returns the host if it is healthy or degraded, else nil.
func (h *Host) unlessUnhealthy() *Host {
	if h.Flags().unhealthy() {
		return nil
	}
	return h
}

// selector returns the selector with exactly the keys of some labels, nil if there is none.
func (s *subsets) selector(labels Labels) *SubsetSelector {
	for i := range s.p.Selectors {
		sel := &s.p.Selectors[i]
		if len(sel.Keys) != len(labels) {
			continue
		}
		same := true
		for j := range labels {
			same = same && labels[j].Key == sel.Keys[j]
		}
		if same {
			return sel
		}
	}
	return nil
}

// only returns the labels that have one of the keys, which are sorted.
func (l Labels) only(keys []string, into Labels) Labels {
	for i := range l {
		for _, k := range keys {
			if l[i].Key == k {
				into = append(into, l[i])
				break
			}
		}
	}
	return into
}

// fallback picks where the whole policy falls back to, and among all hosts if nobody is
// there and panic_mode_any says so.
func (s *subsets) fallback(a *Attempt, attempt int) (h *Host, panicked bool) {
	var to *subset
	switch s.p.Fallback {
	case AnyEndpoint:
		to = s.any
	case DefaultSubset:
		to = s.preset
	default:
		return nil, false
	}
	st := &s.env.core.lb
	if h, panicked = to.pick(a, attempt); h != nil {
		st.LBSubsetsFallback.Inc()
		return h, panicked
	}
	if s.p.PanicModeAny {
		if h, panicked = s.any.pick(a, attempt); h != nil {
			st.LBSubsetsFallbackPanic.Inc()
		}
	}
	return h, panicked
}
