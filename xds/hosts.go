package xds

import (
	"errors"
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// hosts is a route table whose virtual hosts come one by one (VHDS).
type hosts struct {
	table *fromproto.OnDemand
	from  ref
	asked map[string]bool // names of virtual hosts that requests have asked for
}

// setHosts takes a route configuration with vhds; what came of its virtual hosts before
// stays. The lock is held.
func (m *Manager) setHosts(name string, table *fromproto.OnDemand) error {
	from := refTo(name, table.From)
	if from.path != "" || from.api == "" && !m.adsDelta {
		return filter.At("vhds.config_source", errors.New("virtual hosts come over DELTA_GRPC only"))
	}
	if err := m.streams.check(ads.VirtualHostType, from.api); err != nil {
		return filter.At("vhds.config_source", err)
	}
	for full, r := range m.inUse.types[ads.VirtualHostType] {
		if of, _ := cutHost(full); of == name && r.Body != nil {
			if err := table.Set(full, r.Body.GetValue(), m.parser()); err != nil {
				m.log.Warn("a virtual host does not fit into the new table", "name", full, "error", err)
			}
		}
	}
	before := m.hosts[name]
	if before != nil && before.from != from {
		m.dropHosts(name)
		before = nil
	}
	if before != nil {
		before.table = table
		return m.putHosts(name, before)
	}
	h := &hosts{table: table, from: from, asked: map[string]bool{}}
	m.hosts[name] = h
	prefix := ""
	m.watches(ads.RouteType, name, func(w *watch) { prefix = w.prefix })
	m.use(m.vhosts, from, name, 0, prefix) // nobody waits for it: it is not the name of any virtual host
	return m.putHosts(name, h)
}

// dropHosts is the end of a table with vhds. The lock is held.
func (m *Manager) dropHosts(name string) {
	h := m.hosts[name]
	if h == nil {
		return
	}
	delete(m.hosts, name)
	s := m.subscriber(ads.VirtualHostType, h.from.api)
	for full := range h.asked {
		s.Unsubscribe(ads.VirtualHostType, full)
		m.hostAnswered(full, false)
	}
	m.drop(m.vhosts, h.from, name)
	for full := range m.inUse.types[ads.VirtualHostType] {
		if of, _ := cutHost(full); of == name {
			m.inUse.forget(ads.VirtualHostType, full)
		}
	}
}

func (m *Manager) putHosts(name string, h *hosts) error {
	table, err := h.table.Table()
	if err != nil {
		return err
	}
	m.engine.SetRoutes(name, table)
	return nil
}

// setHost takes a virtual host; its name is that of the table and one of its own.
func (m *Manager) setHost(full string, raw []byte) error {
	name, _ := cutHost(full)
	h := m.hosts[name]
	if h == nil {
		return nil // it was on its way when its table went
	}
	p := m.parser()
	if err := h.table.Set(full, raw, p); err != nil {
		return err
	}
	m.warn("virtual host", full, p.Warnings)
	return m.putHosts(name, h)
}

// removeHost takes a virtual host away, or learns that there is none.
func (m *Manager) removeHost(full string) {
	name, _ := cutHost(full)
	h := m.hosts[name]
	if h == nil {
		return
	}
	if m.inUse.types[ads.VirtualHostType][full] != nil {
		h.table.Remove(full)
		if err := m.putHosts(name, h); err != nil {
			m.log.Error("a virtual host cannot be taken away", "name", full, "error", err)
		}
	}
	m.unaskHost(h, full)
	m.hostAnswered(full, false)
}

// hostsAnswered ends the waits for the virtual hosts of an update, under all the names
// that they go by. The lock is held.
func (m *Manager) hostsAnswered(u *ads.Update, refused []ads.Refusal) {
	for i := range u.Changed {
		r := &u.Changed[i]
		ok := !slices.ContainsFunc(refused, func(bad ads.Refusal) bool { return bad.Name == r.Name })
		m.hostAnswered(r.Name, ok)
		for _, alias := range r.Aliases {
			m.hostAnswered(alias, ok)
		}
	}
}

func (m *Manager) hostAnswered(full string, found bool) {
	name, host := cutHost(full)
	m.engine.Arrived(filter.Wanted{Kind: filter.WantedHost, From: name, Name: host}, found)
}

// askHost subscribes to the virtual host of a request.
func (m *Manager) askHost(w filter.Wanted) {
	full := w.From + "/" + w.Name
	h := m.hosts[w.From]
	if h == nil {
		m.engine.Arrived(w, false)
		return
	}
	m.unaskHost(h, full) // an answer of before is not sent again otherwise
	h.asked[full] = true
	m.subscriber(ads.VirtualHostType, h.from.api).Subscribe(ads.VirtualHostType, 0, full)
}

// forgetHost takes askHost back where it brought nothing.
func (m *Manager) forgetHost(w filter.Wanted) {
	full := w.From + "/" + w.Name
	r := m.inUse.types[ads.VirtualHostType][full]
	if h := m.hosts[w.From]; h != nil && (r == nil || r.Body == nil) {
		m.unaskHost(h, full)
	}
}

func (m *Manager) unaskHost(h *hosts, full string) {
	if h.asked[full] {
		delete(h.asked, full)
		m.subscriber(ads.VirtualHostType, h.from.api).Unsubscribe(ads.VirtualHostType, full)
	}
}

// cutHost separates the name of a table from that of a host in it.
func cutHost(full string) (table, host string) {
	i := strings.LastIndexByte(full, '/')
	if i < 0 {
		return full, ""
	}
	return full[:i], full[i+1:]
}
