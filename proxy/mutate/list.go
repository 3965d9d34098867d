package mutate

import "github.com/mecha-mesh/mecha/proxy/header"

// List is changes that apply one after the other, in order (HeaderMutation of
// envoy.config.common.mutation_rules.v3). A nil List changes nothing.
type List struct {
	of    Message
	steps []step
}

// NewList returns what changes nothing yet.
func NewList(of Message) *List { return &List{of: of} }

type step struct {
	remove   bool
	matching func(name string) bool // remove_on_match
	addition
}

// Remove adds the removal of a field.
func (l *List) Remove(name string) error {
	f, err := newField(name)
	if err == nil {
		l.steps = append(l.steps, step{remove: true, addition: addition{field: f}})
	}
	return err
}

// RemoveMatching adds the removal of all fields whose lower-case name matches, except
// pseudo-headers.
func (l *List) RemoveMatching(name func(string) bool) {
	l.steps = append(l.steps, step{remove: true, matching: name})
}

// Add adds a field, as Headers.Add does.
func (l *List) Add(name, value string, action Action, keepEmpty bool) error {
	f, err := newField(name)
	if err != nil {
		return err
	}
	a, err := newAddition(l.of, f, value, action, keepEmpty)
	if err == nil {
		l.steps = append(l.steps, step{addition: a})
	}
	return err
}

// Empty reports whether l changes nothing.
func (l *List) Empty() bool { return l == nil || len(l.steps) == 0 }

// Apply changes m, which belongs to the stream that s describes.
func (l *List) Apply(m *header.Map, s Source) {
	if l == nil {
		return
	}
	for i := range l.steps {
		st := &l.steps[i]
		switch {
		case st.matching != nil:
			m.DelFunc(func(f header.Field) bool { return f.Name[0] != ':' && st.matching(f.Name) })
		case st.remove:
			m.Del(st.name)
		default:
			st.apply(m, st.value(m, s))
		}
	}
}
