package cluster

// Discovery may be wrong: a host that still passes its checks is not let go when it leaves
// discovery, but with the first check that it fails (Envoy's PENDING_DYNAMIC_REMOVAL).

// retains reports whether hosts that leave discovery stay for as long as they are well.
func (s *Spec) retains() bool {
	return s.Checks != nil && !s.IgnoreHealthOnRemoval && (s.Type == EDS || s.Type == StrictDNS)
}

// retain adds what is to stay of the hosts before to a set that is being made.
func (set *hostSet) retain(before *hostSet) {
	if before == nil || !set.env.spec.retains() {
		return
	}
	for _, h := range before.all {
		key := h.from.key(set.env.spec)
		if set.sources[key] != nil || !h.checked() || h.Flags()&(FailedActiveHC|FailedEDSHealth) != 0 {
			continue
		}
		h.ep.flags.Or(uint32(PendingDynamicRemoval))
		l := Locality{Region: h.Region, Zone: h.Zone, SubZone: h.SubZone, Priority: h.Priority}
		set.grow(h.Priority)
		top := &set.top[h.Priority]
		top.add(h, top.locality(&l))
		set.sources[key] = h
		set.all = append(set.all, h)
	}
}

// listed notes that a host is in discovery.
func (h *Host) listed() {
	if h.ep.flags.Load()&uint32(PendingDynamicRemoval) != 0 {
		h.ep.flags.And(^uint32(PendingDynamicRemoval))
	}
}

// letGo ends what retain began for hosts that are not well any more. It is called without
// locks, perhaps by who checks a host.
func (co *core) letGo(m *Manager) {
	m.goWork(func() {
		m.mu.Lock()
		defer m.unlock()
		c := co.newest.Load()
		if c == nil || c.ended || c.run.Load() == nil || m.closed {
			return
		}
		m.rebuild(c)
	})
}
