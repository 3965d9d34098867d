package match

import "github.com/mecha-mesh/mecha/proxy/meta"

// Metadata matches a value in dynamic metadata (envoy.type.matcher.v3.MetadataMatcher).
type Metadata struct {
	Namespace string   // filter
	Path      []string // keys, from the outermost on
	Value     Value
	Invert    bool
}

// Match reports whether metadata matches.
func (m *Metadata) Match(md *meta.Metadata) bool {
	v, there := md.Find(m.Namespace, m.Path...)
	return m.Value.Match(v, there) != m.Invert
}
