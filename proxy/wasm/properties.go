package wasm

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// stateKey is what the names of filter state begin with that guests set.
const stateKey = "wasm."

// maxProperty is how long a value may be that a guest sets.
const maxProperty = 1 << 20

// source is what properties of the guest are read of.
func (in *Instance) source() attributes.Source {
	if c := in.effective; c != nil && c.subject != nil {
		return c.subject.Attributes()
	}
	return attributes.Source{}
}

// renamed are the properties that have had names of their own before they were attributes.
var renamed = map[string]string{
	"route_name": "route_name", "route_metadata": "route_metadata", "cluster_name": "cluster_name",
	"cluster_metadata": "cluster_metadata", "upstream_host_metadata": "upstream_host_metadata",
	"listener_metadata": "listener_metadata",
}

// property finds the value under a path, nil if there is none.
func (in *Instance) property(path []string) any {
	first, rest := path[0], path[1:]
	v := in.own(first)
	src := in.source()
	switch {
	case v != nil:
	case renamed[first] != "":
		v = src.At("xds", renamed[first])
	case first == "connection_id":
		v = src.At("connection", "id")
	case first == "metadata" || first == "filter_state":
		v = src.At(first, "")
	case attributes.IsObject(first):
		if len(rest) == 0 {
			return nil
		}
		v, rest = src.At(first, rest[0]), rest[1:]
	default:
		v = state(src, stateKey+first)
	}
	for _, part := range rest {
		switch m := v.(type) {
		case map[string]any:
			v = m[part]
		case attributes.Keyed:
			v = m.At(part)
		default:
			return nil
		}
	}
	return v
}

func state(src attributes.Source, key string) any {
	switch {
	case src.Stream != nil:
		return src.Stream.FilterState(key)
	case src.Conn != nil:
		return src.Conn.FilterState(key)
	}
	return nil
}

// own is what the host knows without a stream.
func (in *Instance) own(name string) any {
	p := in.effectivePlugin()
	if p == nil {
		return nil
	}
	switch name {
	case "plugin_name":
		return p.Name
	case "plugin_root_id":
		return p.RootID
	case "plugin_vm_id":
		return in.vm.config.ID
	case "node":
		return map[string]any{
			"id": p.env.Node.ID, "cluster": p.env.Node.Cluster,
			"locality": map[string]any{"zone": p.env.Node.Zone},
		}
	case "listener_direction":
		if p.env.Outbound {
			return int64(2)
		}
		return int64(0)
	}
	return nil
}

func (in *Instance) effectivePlugin() *Plugin {
	if in.effective == nil {
		return nil
	}
	return in.effective.plugin
}

// appendValue writes a value as guests read it: texts and bytes as they are, numbers in
// eight bytes, little end first, a bool in one, times in ns, maps as pairs.
func appendValue(dst []byte, v any) ([]byte, bool) {
	switch v := v.(type) {
	case string:
		return append(dst, v...), true
	case []byte:
		return append(dst, v...), true
	case bool:
		return append(dst, byte(flag(v))), true
	case int64:
		return binary.LittleEndian.AppendUint64(dst, uint64(v)), true
	case uint64:
		return binary.LittleEndian.AppendUint64(dst, v), true
	case float64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v)), true
	case time.Time:
		return binary.LittleEndian.AppendUint64(dst, uint64(v.UnixNano())), true
	case time.Duration:
		return binary.LittleEndian.AppendUint64(dst, uint64(v)), true
	case map[string]any:
		return appendMap(dst, v)
	case attributes.Keyed:
		return appendMap(dst, v.All())
	}
	if text, ok := filter.StateText(v); ok {
		return append(dst, text...), true
	}
	return dst, false
}

func appendMap(dst []byte, m map[string]any) ([]byte, bool) {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	var texts []byte
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(names)))
	for _, name := range names {
		from := len(texts)
		texts = append(append(texts, name...), 0)
		at := len(texts)
		var ok bool
		if texts, ok = appendValue(texts, m[name]); !ok {
			return dst, false
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(at-from-1))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(texts)-at))
		texts = append(texts, 0)
	}
	return append(dst, texts...), true
}

func (in *Instance) getProperty(a []uint64) Status {
	p, ok := in.view(a[0], a[1])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	v := in.property(strings.Split(strings.TrimSuffix(string(p), "\x00"), "\x00"))
	if v == nil {
		return StatusNotFound
	}
	if s, ok := v.(string); ok {
		return in.give(s, a[2], a[3])
	}
	b, ok := appendValue(in.scratch[:0], v)
	in.scratch = b[:0]
	if !ok {
		return StatusSerializationFailure
	}
	return in.give(string(b), a[2], a[3])
}

func (in *Instance) setProperty(a []uint64) Status {
	path, ok := in.view(a[0], a[1])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	value, ok := in.view(a[2], a[3])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	if len(value) > maxProperty || len(path) == 0 {
		return StatusBadArgument
	}
	return in.keep(string(path), string(value))
}

// property is what a guest has declared of one that it sets.
type property struct {
	readonly bool
	span     uint64
}

// lifeSpan of what a guest sets, where it is not that of the stream.
const connectionSpan = 2

// states returns where the guest's filter state is kept; nil where there is none.
func (in *Instance) states(span uint64) *filter.State {
	switch src := in.source(); {
	case src.Stream != nil && span == connectionSpan && src.Stream.Session != nil:
		return &src.Stream.Session.State
	case src.Stream != nil:
		return &src.Stream.State
	case src.Conn != nil:
		return &src.Conn.State
	}
	return nil
}

// keep sets a property, as it was declared if it was.
func (in *Instance) keep(path, value string) Status {
	declared := in.effectiveRoot().declared[path]
	state := in.states(declared.span)
	switch {
	case state == nil:
		return StatusNotFound
	case declared.readonly && state.Get(stateKey+path) != nil:
		return StatusBadArgument
	}
	state.Set(stateKey+path, value)
	return StatusOK
}

// effectiveRoot is the root on behalf of which the guest acts; one without anything in it where
// there is none.
func (in *Instance) effectiveRoot() *Context {
	switch c := in.effective; {
	case c == nil:
		return &Context{}
	case c.root != nil:
		return c.root
	default:
		return c
	}
}
