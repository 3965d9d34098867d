package oauth2

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// jar is the cookies of a request, in their order. What the filter does not change stays as
// it was written.
type jar struct {
	items   []cookie
	changed bool
}

type cookie struct {
	name, value string
	raw         string // as it came; "" if the filter has made it
}

// fill reads the cookies of a request (RFC 6265 section 5.4).
func (j *jar) fill(m *header.Map) {
	j.items, j.changed = j.items[:0], false
	for list := range m.Values("cookie") {
		for list != "" {
			var item string
			item, list, _ = strings.Cut(list, ";")
			item = strings.Trim(item, " \t")
			name, value, pair := strings.Cut(item, "=")
			if !pair {
				name, value = "", item // not ours, whatever it is
			}
			if item != "" {
				j.items = append(j.items, cookie{name, unquote(value), item})
			}
		}
	}
}

func unquote(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

// get returns the value of a cookie, the first one of that name.
func (j *jar) get(name string) (string, bool) {
	for i := range j.items {
		if j.items[i].name == name {
			return j.items[i].value, true
		}
	}
	return "", false
}

// value is get where there is no difference between none and an empty one.
func (j *jar) value(name string) string {
	v, _ := j.get(name)
	return v
}

func (j *jar) has(name string) bool {
	_, ok := j.get(name)
	return ok
}

// set gives a cookie a value, and leaves one of that name.
func (j *jar) set(name, value string) {
	found := false
	for i := 0; i < len(j.items); i++ {
		switch {
		case j.items[i].name != name:
		case found:
			j.items = append(j.items[:i], j.items[i+1:]...)
			i--
		default:
			found = true
			j.items[i] = cookie{name: name, value: value}
		}
	}
	if !found {
		j.items = append(j.items, cookie{name: name, value: value})
	}
	j.changed = true
}

// drop removes the cookies whose name drop answers true for.
func (j *jar) drop(drop func(name string) bool) {
	kept := j.items[:0]
	for _, c := range j.items {
		if c.name != "" && drop(c.name) {
			j.changed = true
			continue
		}
		kept = append(kept, c)
	}
	j.items = kept
}

// write gives a request the cookies of the jar, in one field.
func (j *jar) write(m *header.Map) {
	if !j.changed {
		return
	}
	j.changed = false
	if len(j.items) == 0 {
		m.DelID(header.Cookie)
		return
	}
	m.SetID(header.Cookie, m.Format(func(dst []byte) []byte {
		for i, c := range j.items {
			if i > 0 {
				dst = append(dst, "; "...)
			}
			if c.raw != "" {
				dst = append(dst, c.raw...)
				continue
			}
			dst = append(append(append(dst, c.name...), '='), c.value...)
		}
		return dst
	}))
}

// clear forgets the cookies.
func (j *jar) clear() {
	clear(j.items)
	j.items = j.items[:0]
}
