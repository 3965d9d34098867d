package oauth2

import (
	"strconv"
	"strings"
)

// A token that is too large for one cookie is in several: NAME_0 and so on, and NAME_chunks
// says how many there are.
const (
	mostChunks  = 16 // that are read
	leastChunks = 2
	chunkRoom   = 3 // in a cookie, for the longest suffix: "_15"
)

// chunking is token_cookie_chunking.
type chunking struct {
	size int // most bytes of a cookie with its attributes; 0: tokens are not split
	most int // cookies for a token
}

// had is what a request has of the cookies of a token.
type had struct {
	whole  bool // the cookie itself
	chunks int  // NAME_0 to that, and NAME_chunks; 0: none
}

func countName(name string) string        { return name + "_chunks" }
func chunkName(name string, i int) string { return name + "_" + strconv.Itoa(i) }

// join puts a token that is in several cookies into one, and remembers what there was.
func (f *Filter) join(kind cookieKind) {
	name := f.set.Cookies[kind].name
	h := &f.had[kind]
	*h = had{whole: f.jar.has(name)}
	count, ok := f.jar.get(countName(name))
	if !ok {
		return
	}
	token, n := f.chunks(name, count)
	f.jar.drop(func(c string) bool { return isChunk(c, name) })
	if h.chunks = n; n == 0 {
		h.chunks = mostChunks
		f.counters.Malformed.Inc()
		return
	}
	f.counters.Reassembled.Inc()
	f.jar.set(name, token)
}

// chunks reads a token of several cookies; n is 0 if it is not there as a whole.
func (f *Filter) chunks(name, count string) (token string, n int) {
	n, err := strconv.Atoi(count)
	if err != nil || n < leastChunks || n > mostChunks {
		return "", 0
	}
	var b strings.Builder
	for i := range n {
		v := f.jar.value(chunkName(name, i))
		if v == "" {
			return "", 0
		}
		b.WriteString(v)
	}
	return b.String(), n
}

// isChunk tells whether a cookie is a part of that of a token.
func isChunk(cookie, name string) bool {
	rest, ok := strings.CutPrefix(cookie, name)
	if !ok || len(rest) < 2 || rest[0] != '_' {
		return false
	}
	if rest == "_chunks" {
		return true
	}
	n, err := strconv.Atoi(rest[1:])
	return err == nil && n >= 0 && n < mostChunks && strconv.Itoa(n) == rest[1:]
}

// write returns Set-Cookie for a token, or what deletes it if it is empty; n is how many
// cookies it is split into. ok is false if it is too large.
func (f *Filter) write(kind cookieKind, token, seconds string) (out []string, n int, ok bool) {
	spec, h := &f.set.Cookies[kind], f.had[kind]
	if token == "" {
		if f.jar.has(spec.name) {
			out = append(out, spec.delete(spec.name))
		}
		return append(out, spec.deleteChunks(h.chunks)...), 0, true
	}
	if !f.set.Plain {
		token = f.sealer.seal(token)
	}
	one := spec.set(spec.name, token, seconds)
	size := f.set.Chunking.size
	if size == 0 || len(one) <= size {
		return append(spec.deleteChunks(h.chunks), one), 0, true
	}
	room := size - (len(one) - len(token)) - chunkRoom
	if room > 0 {
		n = (len(token) + room - 1) / room
	}
	if n == 0 || n > f.set.Chunking.most {
		f.counters.Oversized.Inc()
		return nil, 0, false
	}
	if h.whole {
		out = append(out, spec.delete(spec.name))
	}
	for i := n; i < h.chunks; i++ {
		out = append(out, spec.delete(chunkName(spec.name, i)))
	}
	for i := range n {
		out = append(out, spec.set(chunkName(spec.name, i), token[i*room:min((i+1)*room, len(token))], seconds))
	}
	return append(out, spec.set(countName(spec.name), strconv.Itoa(n), seconds)), n, true
}

// deleteChunks deletes the cookies of a token that is in n.
func (c *cookieSpec) deleteChunks(n int) (out []string) {
	if n > 0 {
		out = append(out, c.delete(countName(c.name)))
	}
	for i := range n {
		out = append(out, c.delete(chunkName(c.name, i)))
	}
	return out
}
