package xds

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// Record is one resource in effect, for admin's config_dump: the bytes as they came,
// and the last refusal if a newer version was refused.
type Record struct {
	Name    string
	Version string
	Body    *anypb.Any // nil where no version was ever accepted; shared: read only
	Updated time.Time
	Static  bool // from the bootstrap
	Stale   bool // from the disk: the control plane has not spoken of it

	Refused *Refused // the newest version, nil if it is in effect; shared: read only

	checked *anypb.Any // the body that secret is about
	secret  bool       // it holds what must not be written; see sensitive
}

// Refused is a version of a resource that was not taken.
type Refused struct {
	Err     error
	Version string
	Body    *anypb.Any // shared: read only
	At      time.Time
}

// Inventory is everything in effect, by type. It belongs to the manager's lock.
type Inventory struct {
	types    map[string]map[string]*Record
	versions map[string]string // by type, of the newest resource that was accepted
	before   map[resourceKey]Record
}

type resourceKey struct{ typeURL, name string }

// keepBefore remembers the version that goes on while a newer one warms: config_dump shows
// both. was is the record before the newer one came, wasWarming whether that one was not in
// use itself, and isWarming whether the newer one has to wait.
func (v *Inventory) keepBefore(typeURL string, was Record, wasWarming, isWarming bool) {
	key := resourceKey{typeURL, was.Name}
	switch {
	case !isWarming:
		delete(v.before, key)
	case !wasWarming && was.Body != nil:
		if v.before == nil {
			v.before = map[resourceKey]Record{}
		}
		v.before[key] = was
	}
}

// forgetBefore lets go of what is not in use any more.
func (v *Inventory) forgetBefore(warming func(typeURL, name string) bool) {
	for key := range v.before {
		if !warming(key.typeURL, key.name) {
			delete(v.before, key)
		}
	}
}

func (v *Inventory) note(typeURL string, r *ads.Resource, err error) {
	byName := v.types[typeURL]
	if byName == nil {
		byName = map[string]*Record{}
		v.types[typeURL] = byName
	}
	rec := byName[r.Name]
	if rec == nil {
		rec = &Record{Name: r.Name}
		byName[r.Name] = rec
	}
	if err != nil {
		rec.Refused = &Refused{err, r.Version, r.Body, time.Now()}
		return
	}
	if r.Version != "" {
		if v.versions == nil {
			v.versions = map[string]string{}
		}
		v.versions[typeURL] = r.Version
	}
	rec.Version, rec.Body, rec.Updated, rec.Stale = r.Version, r.Body, time.Now(), false
	rec.Refused = nil
}

// fail notes that what is in effect as far as anybody was told is not: the version before
// is.
func (v *Inventory) fail(typeURL, name string, err error) {
	rec := v.types[typeURL][name]
	if rec == nil {
		return
	}
	refused := &Refused{err, rec.Version, rec.Body, time.Now()}
	key := resourceKey{typeURL, name}
	if was, ok := v.before[key]; ok {
		*rec = was
		delete(v.before, key)
	}
	rec.Refused = refused
}

func (v *Inventory) forget(typeURL, name string) {
	delete(v.types[typeURL], name)
	delete(v.before, resourceKey{typeURL, name})
}

// get returns a copy of a record; it is empty but for the name where there is none.
func (v *Inventory) get(typeURL, name string) Record {
	if r := v.types[typeURL][name]; r != nil {
		return *r
	}
	return Record{Name: name}
}

// Before returns the version of a resource that is in use while its newest one warms.
func (m *Manager) Before(typeURL, name string) (Record, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.inUse.before[resourceKey{typeURL, name}]
	return r, ok
}

// warming reports whether the newest version of a resource waits for something.
func (m *Manager) warming(typeURL, name string) bool {
	switch typeURL {
	case ads.ClusterType:
		return m.engine.ClusterWarming(name)
	case ads.ListenerType:
		return m.engine.ListenerWarming(name)
	}
	return false
}

// Version returns the version of the newest resource of a type that was accepted.
func (m *Manager) Version(typeURL string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inUse.versions[typeURL]
}

// Records returns copies of the records of a type, sorted by name.
func (m *Manager) Records(typeURL string) []Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Record, 0, len(m.inUse.types[typeURL]))
	for _, r := range m.inUse.types[typeURL] {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
	return out
}
