package l7

import (
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// normalizePath applies path_with_escaped_slashes_action, normalize_path and
// merge_slashes to ":path", leaving the query alone.
func (st *stream) normalizePath() error {
	m, spec := &st.Request, st.m.spec
	full := m.Value(header.Path)
	path, rest := full, ""
	if i := strings.IndexAny(full, "?#"); i >= 0 {
		path, rest = full[:i], full[i:]
	}
	was := path
	if spec.EscapedSlashes != KeepUnchanged && hasEscapedSlash(path) {
		switch spec.EscapedSlashes {
		case RejectRequest:
			return st.badPath()
		case UnescapeAndRedirect:
			st.m.counters.RqRedirected.Inc()
			path = st.cleanPath(unescapeSlashes(path))
			return &filter.Reply{
				Code: 307, Details: "path_normalization_failed",
				Header: []header.Field{{Name: "location", Value: path + rest}},
			}
		case UnescapeAndForward:
			path = unescapeSlashes(path)
		}
	}
	if path = st.cleanPath(path); path == "" {
		return st.badPath()
	}
	if path != was {
		m.SetID(header.Path, m.Concat(path, rest))
	}
	return nil
}

func (st *stream) badPath() error {
	st.m.counters.RqFailedPath.Inc()
	return &replyBadPath
}

// cleanPath returns "" where the path climbs above its root or has a bad escape.
func (st *stream) cleanPath(path string) string {
	if st.m.spec.NormalizePath && needsNormalizing(path) {
		path = normalize(path)
	}
	if st.m.spec.MergeSlashes && strings.Contains(path, "//") {
		path = mergeSlashes(path)
	}
	return path
}

// needsNormalizing is false for nearly every path, which then costs one scan.
func needsNormalizing(path string) bool {
	for i := range len(path) {
		switch path[i] {
		case '%', '\\':
			return true
		case '.':
			if i > 0 && path[i-1] == '/' {
				return true
			}
		}
	}
	return false
}

// normalize resolves "." and ".." segments, decodes escaped unreserved characters and
// turns backslashes into slashes, as the URL standard says. Other escapes, wrong ones
// too, stay as they are, except that no new escape may come of decoding: of "%%333",
// which policies would see as "%33" and upstream as "3", the first "%" becomes "%25". It
// returns "" for an escaped NUL.
func normalize(path string) string {
	var out []byte
	var loose []int // where in out "%" stands that begins no escape
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '\\':
			out = append(out, '/')
		case c != '%':
			out = append(out, c)
		case i+2 >= len(path) || unhex(path[i+1]) < 0 || unhex(path[i+2]) < 0:
			loose = append(loose, len(out))
			out = append(out, c)
		default:
			d := byte(unhex(path[i+1])<<4 | unhex(path[i+2]))
			if d == 0 {
				return ""
			}
			if unreserved(d) {
				out = append(out, d)
			} else {
				out = append(out, path[i:i+3]...)
			}
			i += 2
		}
	}
	return removeDots(string(escapeLoose(out, loose)))
}

// escapeLoose escapes each "%" at one of the places that has come to begin an escape.
func escapeLoose(path []byte, loose []int) []byte {
	for _, i := range slices.Backward(loose) {
		if i+2 < len(path) && unhex(path[i+1]) >= 0 && unhex(path[i+2]) >= 0 {
			path = slices.Insert(path, i+1, '2', '5')
		}
	}
	return path
}

func removeDots(path string) string {
	var kept []string
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
			if last {
				kept = append(kept, "")
			}
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	return "/" + strings.Join(kept, "/")
}

func mergeSlashes(path string) string {
	out := make([]byte, 0, len(path))
	for i := range len(path) {
		if path[i] == '/' && i > 0 && path[i-1] == '/' {
			continue
		}
		out = append(out, path[i])
	}
	return string(out)
}

func hasEscapedSlash(path string) bool {
	for i := 0; i+2 < len(path); i++ {
		if path[i] == '%' && isSlashEscape(path[i+1], path[i+2]) {
			return true
		}
	}
	return false
}

func isSlashEscape(a, b byte) bool {
	return a == '2' && b|0x20 == 'f' || a == '5' && b|0x20 == 'c'
}

func unescapeSlashes(path string) string {
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) && isSlashEscape(path[i+1], path[i+2]) {
			out = append(out, byte(unhex(path[i+1])<<4|unhex(path[i+2])))
			i += 2
			continue
		}
		out = append(out, path[i])
	}
	return string(out)
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
