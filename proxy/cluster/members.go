package cluster

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// members are the hosts of one priority, whatever their health, in the order of their
// assignment, and by locality.
type members struct {
	hosts      []*Host
	localities []localityMembers // the one we are in first, if it is among them, then by name
	local      bool              // the first one is ours
	weights    bool              // any locality has a weight
}

// localityMembers are the hosts of a locality. weight is load_balancing_weight, 0 if
// there is none.
type localityMembers struct {
	LocalityName
	weight uint32
	hosts  []*Host
}

// LocalityName says where hosts are.
type LocalityName struct{ Region, Zone, SubZone string }

// Compare orders localities by name.
func (l LocalityName) Compare(o LocalityName) int {
	return cmp.Or(strings.Compare(l.Region, o.Region), strings.Compare(l.Zone, o.Zone), strings.Compare(l.SubZone, o.SubZone))
}

// locality returns the index of a locality, adding it if it is new.
func (m *members) locality(l *Locality) int {
	name := LocalityName{l.Region, l.Zone, l.SubZone}
	at := slices.IndexFunc(m.localities, func(o localityMembers) bool { return o.LocalityName == name })
	if at < 0 {
		at = len(m.localities)
		m.localities = append(m.localities, localityMembers{LocalityName: name})
	}
	if l.Weight > 0 {
		m.localities[at].weight, m.weights = l.Weight, true
	}
	return at
}

func (m *members) add(h *Host, at int) {
	m.hosts = append(m.hosts, h)
	m.localities[at].hosts = append(m.localities[at].hosts, h)
}

// order sorts the localities; those without hosts are not there.
func (m *members) order(ours LocalityName) {
	m.localities = slices.DeleteFunc(m.localities, func(l localityMembers) bool { return len(l.hosts) == 0 })
	slices.SortFunc(m.localities, func(a, b localityMembers) int {
		switch {
		case a.LocalityName == b.LocalityName:
			return 0
		case ours != LocalityName{} && a.LocalityName == ours:
			return -1
		case ours != LocalityName{} && b.LocalityName == ours:
			return 1
		}
		return a.Compare(b.LocalityName)
	})
	m.local = ours != LocalityName{} && len(m.localities) > 0 && m.localities[0].LocalityName == ours
}

// some returns the members that are some of the hosts of a set. The localities stay,
// perhaps without hosts, so that their order is that of all members.
func (set *hostSet) some(hosts []*Host) []members {
	top := make([]members, len(set.top))
	for i := range top {
		all := &set.top[i]
		top[i] = members{local: all.local, weights: all.weights, localities: make([]localityMembers, len(all.localities))}
		for j := range all.localities {
			top[i].localities[j] = localityMembers{LocalityName: all.localities[j].LocalityName, weight: all.localities[j].weight}
		}
	}
	for _, h := range hosts {
		m, name := &top[h.Priority], LocalityName{h.Region, h.Zone, h.SubZone}
		m.add(h, slices.IndexFunc(m.localities, func(l localityMembers) bool { return l.LocalityName == name }))
	}
	return top
}

// hostMap finds hosts by the text of their address. It is made when it is used.
type hostMap struct {
	once sync.Once
	m    map[string]*Host
}

// at returns the host with that address, nil if there is none.
func (set *hostSet) at(addr string) *Host {
	set.named.once.Do(func() {
		set.named.m = make(map[string]*Host, len(set.all))
		for _, h := range set.all {
			set.named.m[h.Addr.String()] = h
		}
	})
	return set.named.m[addr]
}
