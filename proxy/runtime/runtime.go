// Package runtime holds runtime values: settings by key that may change while the
// proxy runs, in layers of which the last that has a key wins (Envoy's
// layered_runtime). What needs a value takes a handle once, when configuration is
// built; reading it on the path of a request is one atomic load.
//
// Where layers come from is elsewhere: the bootstrap and RTDS in xds, the admin
// endpoint in cmd. Only files are read here (disk.go), and nothing is watched.
package runtime

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"weak"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Kind is what fills a layer.
type Kind uint8

// The kinds of layers (RuntimeLayer.layer_specifier).
const (
	Static Kind = iota
	Disk
	Admin
	RTDS
)

// Layer is one layer as configured.
type Layer struct {
	Name string
	Kind Kind
	// Values are those of a static layer: nested keys are joined by dots.
	Values map[string]string
	// Root is disk_layer.symlink_root, the link that is swapped to change the values;
	// Directory is what is read: a subdirectory of it.
	Root, Directory string
	// Resource is rtds_layer.name.
	Resource string
}

// Stats are the metrics under "runtime.".
type Stats struct {
	LoadSuccess   stats.Counter `stat:"load_success" help:"Times that all layers were read."`
	LoadError     stats.Counter `stat:"load_error" help:"Times that a disk layer could not be read."`
	DirExists     stats.Counter `stat:"override_dir_exists" help:"Times that more than one disk layer was read."`
	DirNotExists  stats.Counter `stat:"override_dir_not_exists" help:"Times that at most one disk layer was read."`
	DeprecatedUse stats.Counter `stat:"deprecated_feature_use" help:"Deprecated features that configuration used."`
	Deprecated    stats.Gauge   `stat:"deprecated_feature_seen_since_process_start" help:"Deprecated features that configuration used, not reset with the counters."`
	AdminActive   stats.Gauge   `stat:"admin_overrides_active" help:"Whether the admin layer has a value."`
	NumKeys       stats.Gauge   `stat:"num_keys" help:"Keys with a value."`
	NumLayers     stats.Gauge   `stat:"num_layers" help:"Layers in effect."`
}

// ErrNoAdmin is the answer to SetAdmin where no layer is the admin's.
var ErrNoAdmin = errors.New("No admin layer specified") //nolint:staticcheck // Envoy's text

// Runtime is the values in effect. It is safe for concurrent use. A nil *Runtime has
// no values: everything is at its default.
type Runtime struct {
	stats Stats

	mu     sync.Mutex
	layers []Layer
	values []map[string]string // of each layer; nil where a disk layer is not there
	final  map[string]*entry
	keys   map[string]weak.Pointer[Key] // handles in use
}

// New returns a runtime of these layers, lowest first, with its disk layers read.
func New(layers []Layer, st *stats.Store) *Runtime {
	r := &Runtime{layers: layers, values: make([]map[string]string, len(layers)), keys: map[string]weak.Pointer[Key]{}}
	if st != nil {
		st.Scope("runtime").Bind(&r.stats)
	}
	for i, l := range layers {
		r.values[i] = map[string]string{}
		if l.Kind == Static {
			r.values[i] = l.Values
		}
	}
	r.Reload()
	return r
}

// Layers returns the layers as configured, lowest first. Read only.
func (r *Runtime) Layers() []Layer {
	if r == nil {
		return nil
	}
	return r.layers
}

// Reload reads the disk layers again. A layer whose directory is not there has no
// values until the next time; one that cannot be read neither.
func (r *Runtime) Reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := false
	read := 0
	for i, l := range r.layers {
		if l.Kind != Disk {
			continue
		}
		values, err := readDisk(l.Directory)
		r.values[i] = values
		if values != nil {
			read++
		}
		failed = failed || err != nil
	}
	r.loaded(read, failed)
}

// loaded counts a load as Envoy does, and puts what was loaded in effect.
func (r *Runtime) loaded(disks int, failed bool) {
	if failed {
		r.stats.LoadError.Inc()
	} else {
		r.stats.LoadSuccess.Inc()
	}
	if disks > 1 {
		r.stats.DirExists.Inc()
	} else {
		r.stats.DirNotExists.Inc()
	}
	r.publish()
}

// SetAdmin changes the admin layer: pairs of key and value, in order; an empty value
// removes the key from it.
func (r *Runtime) SetAdmin(pairs [][2]string) error {
	if r == nil {
		return ErrNoAdmin
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.layers, func(l Layer) bool { return l.Kind == Admin })
	if i < 0 {
		return ErrNoAdmin
	}
	values := maps.Clone(r.values[i])
	for _, p := range pairs {
		if p[1] == "" {
			delete(values, p[0])
		} else {
			values[p[0]] = p[1]
		}
	}
	r.values[i] = values
	r.stats.AdminActive.Set(int64(min(len(values), 1)))
	r.loaded(r.disks(), false)
	return nil
}

// SetRTDS gives the values of an RTDS resource to the layers that name it. The map is
// the runtime's from here on.
func (r *Runtime) SetRTDS(resource string, values map[string]string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, l := range r.layers {
		if l.Kind == RTDS && l.Resource == resource {
			r.values[i] = values
		}
	}
	r.loaded(r.disks(), false)
}

// disks is how many disk layers are in effect.
func (r *Runtime) disks() (n int) {
	for i, l := range r.layers {
		if l.Kind == Disk && r.values[i] != nil {
			n++
		}
	}
	return n
}

// publish computes the values in effect and gives them to the handles. The lock is held.
func (r *Runtime) publish() {
	final := map[string]*entry{}
	layers := 0
	for _, values := range r.values {
		if values == nil {
			continue
		}
		layers++
		for k, v := range values {
			if old := final[k]; old == nil || old.raw != v {
				final[k] = parse(v)
			}
		}
	}
	r.final = final
	for name, weak := range r.keys {
		k := weak.Value()
		if k == nil {
			delete(r.keys, name) // the configuration that used it is gone
			continue
		}
		k.value.Store(final[name])
	}
	r.stats.NumKeys.Set(int64(len(final)))
	r.stats.NumLayers.Set(int64(layers))
}

// Key returns the handle of a key; nil, which has no value, for "" and for a nil
// runtime. Handles of one key are shared.
func (r *Runtime) Key(name string) *Key {
	if r == nil || name == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.keys[name].Value(); k != nil {
		return k
	}
	k := &Key{}
	k.value.Store(r.final[name])
	r.keys[name] = weak.Make(k)
	return k
}

// View is what is in effect, for people.
type View struct {
	Layers  []string
	Entries map[string]ViewEntry
}

// ViewEntry is one key: its value in each layer of View.Layers, "" where it has none.
type ViewEntry struct {
	Final  string
	Layers []string
}

// View returns what is in effect. It is the caller's.
func (r *Runtime) View() View {
	v := View{Entries: map[string]ViewEntry{}}
	if r == nil {
		return v
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var there []map[string]string
	for i, values := range r.values {
		if values != nil { // Envoy doesn't show a disk layer that is not there either
			v.Layers, there = append(v.Layers, r.layers[i].Name), append(there, values)
		}
	}
	for i, values := range there {
		for k, value := range values {
			e, ok := v.Entries[k]
			if !ok {
				e.Layers = make([]string, len(there))
			}
			e.Layers[i], e.Final = value, value
			v.Entries[k] = e
		}
	}
	return v
}
