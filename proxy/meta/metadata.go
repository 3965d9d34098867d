package meta

// Object is a named object of filter state.
type Object struct {
	Key   string
	Value any
	// Transitive is TRANSITIVE of shared_with_upstream: an internal listener that is given
	// the object shares it in turn.
	Transitive bool
}

// Passed is what a connection to an internal listener brings along.
type Passed struct {
	Metadata map[string]map[string]any // by namespace
	State    []Object
}

// Metadata is dynamic metadata: values by namespace (the name of the filter that wrote
// them) and key. A value is one of JSON: nil, bool, float64, string, []any,
// map[string]any; whoever has put it in does not change it any more. The zero value is
// empty. Metadata is not safe for concurrent use.
type Metadata struct {
	by    map[string]map[string]any
	spare []map[string]any // empty ones, left over by Reset
}

// Most spare maps that are kept, and most keys of one that is.
const (
	maxSpare     = 4
	maxSpareKeys = 32
)

// Set stores a value.
func (m *Metadata) Set(namespace, key string, v any) {
	fields := m.by[namespace]
	if fields == nil {
		if n := len(m.spare); n > 0 {
			fields, m.spare = m.spare[n-1], m.spare[:n-1]
		} else {
			fields = map[string]any{}
		}
		if m.by == nil {
			m.by = map[string]map[string]any{}
		}
		m.by[namespace] = fields
	}
	fields[key] = v
}

// Namespace returns all values of a namespace, lent; nil if there are none.
func (m *Metadata) Namespace(name string) map[string]any { return m.by[name] }

// Fields returns all values, lent.
func (m *Metadata) Fields() Fields { return m.by }

// Find returns the value at the end of path, whose elements are keys of nested maps,
// and whether there is one. An empty path is the whole namespace.
func (m *Metadata) Find(namespace string, path ...string) (v any, ok bool) {
	return Find(m.by, namespace, path...)
}

// Find is Metadata.Find for metadata that was configured.
func Find(in Fields, namespace string, path ...string) (v any, ok bool) {
	fields := in[namespace]
	if fields == nil {
		return nil, false
	}
	v, ok = fields, true
	for _, key := range path {
		fields, isMap := v.(map[string]any)
		if !isMap {
			return nil, false
		}
		if v, ok = fields[key]; !ok {
			return nil, false
		}
	}
	return v, ok
}

// Len is how many namespaces there are.
func (m *Metadata) Len() int { return len(m.by) }

// Clone returns a Metadata with the same values.
func (m *Metadata) Clone() Metadata {
	out := Metadata{}
	for namespace, fields := range m.by {
		for key, v := range fields {
			out.Set(namespace, key, v)
		}
	}
	return out
}

// Reset forgets everything. What Namespace has lent is used again.
func (m *Metadata) Reset() {
	for _, fields := range m.by {
		if len(m.spare) < maxSpare && len(fields) <= maxSpareKeys {
			clear(fields)
			m.spare = append(m.spare, fields)
		}
	}
	clear(m.by)
}
