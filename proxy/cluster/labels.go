package cluster

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// lbNamespace is the filter metadata by which hosts are told apart in load balancing.
const lbNamespace = "envoy.lb"

// Label is a key and a value of envoy.lb metadata. The value is in the form of
// LabelValue, so that equal values are equal strings.
type Label struct{ Key, Value string }

// Labels are sorted by key, without two of a key. They are shared and must not be
// changed.
type Labels []Label

// NewLabels returns the labels of a metadata struct: numbers are float64, as in JSON.
func NewLabels(m map[string]any) Labels {
	if len(m) == 0 {
		return nil
	}
	l := make(Labels, 0, len(m))
	for k, v := range m {
		l = append(l, Label{k, LabelValue(v)})
	}
	slices.SortFunc(l, func(a, b Label) int { return cmp.Compare(a.Key, b.Key) })
	return l
}

// Merge returns the labels of both; those of more win.
func (l Labels) Merge(more Labels) Labels {
	switch {
	case len(more) == 0:
		return l
	case len(l) == 0:
		return more
	}
	return l.mergeInto(make(Labels, 0, len(l)+len(more)), more)
}

func (l Labels) mergeInto(both, more Labels) Labels {
	for len(l) > 0 && len(more) > 0 {
		switch c := cmp.Compare(l[0].Key, more[0].Key); {
		case c < 0:
			both, l = append(both, l[0]), l[1:]
		case c > 0:
			both, more = append(both, more[0]), more[1:]
		default:
			both, l, more = append(both, more[0]), l[1:], more[1:]
		}
	}
	return append(append(both, l...), more...)
}

// Get returns the value of a key.
func (l Labels) Get(key string) (value string, ok bool) {
	for i := range l {
		if l[i].Key == key {
			return l[i].Value, true
		}
	}
	return "", false
}

// LabelValue returns a metadata value as a string that no other value has: a letter
// for its kind and the value.
func LabelValue(v any) string { return string(appendValue(nil, v)) }

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return append(strconv.AppendInt(append(b, 's'), int64(len(v)), 10), ":"+v...)
	case float64:
		return append(strconv.AppendFloat(append(b, 'n'), v, 'g', -1, 64), ';')
	case bool:
		return append(strconv.AppendBool(append(b, 'b'), v), ';')
	case []any:
		b = append(b, '[')
		for _, e := range v {
			b = appendValue(b, e)
		}
		return append(b, ']')
	case map[string]any:
		b = append(b, '{')
		for _, k := range sortedKeys(v) {
			b = appendValue(appendValue(b, k), v[k])
		}
		return append(b, '}')
	}
	return append(b, "null;"...)
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// omit reports whether a host has all of the labels, of which there is at least one.
func (l Labels) omit(h *Host) bool {
	for i := range l {
		if !h.hasLabel(&l[i]) {
			return false
		}
	}
	return len(l) > 0
}

// hasLabel reports whether a host has a label; of a list, any of its values.
func (h *Host) hasLabel(want *Label) bool {
	for i := range h.labels {
		if h.labels[i].Key == want.Key && h.labels[i].Value == want.Value {
			return true
		}
	}
	return false
}

// labelsOf returns the labels of a host's metadata. A list stands for itself and for
// each of its values.
func labelsOf(m map[string]any) Labels {
	l := NewLabels(m)
	for k, v := range m {
		if list, ok := v.([]any); ok {
			for _, e := range list {
				l = append(l, Label{k, LabelValue(e)})
			}
		}
	}
	return l
}

// listOfLabels returns the labels of each struct of a list that LabelValue wrote; nil if
// the value is something else.
func listOfLabels(value string) []Labels {
	if value == "" || value[0] != '[' {
		return nil
	}
	all := []Labels{}
	for s := value[1:]; s[0] != ']'; {
		n := valueLen(s)
		var one Labels
		for e := s[1:n]; s[0] == '{' && e[0] != '}'; {
			k := valueLen(e)
			v := k + valueLen(e[k:])
			_, key, _ := strings.Cut(e[:k], ":")
			one, e = append(one, Label{key, e[k:v]}), e[v:]
		}
		all, s = append(all, one), s[n:]
	}
	return all
}

// valueLen returns how long the value is that s begins with.
func valueLen(s string) int {
	switch s[0] {
	case 's':
		colon := strings.IndexByte(s, ':')
		n, _ := strconv.Atoi(s[1:colon])
		return colon + 1 + n
	case '[', '{':
		n := 1
		for s[n] != ']' && s[n] != '}' {
			n += valueLen(s[n:])
		}
		return n + 1
	}
	return strings.IndexByte(s, ';') + 1
}
