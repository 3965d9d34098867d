package h1

import (
	"encoding/binary"
	"unsafe"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// cleanValue reports whether p has no control characters other than tab: what a
// field value may contain (RFC 9110 5.5, obs-text allowed).
func cleanValue(p []byte) bool {
	for len(p) >= 8 {
		x := binary.LittleEndian.Uint64(p)
		del := x ^ (0x7f * ones)
		if ((x-0x20*ones)&^x|(del-ones)&^del)&highs != 0 && !cleanBytes(p[:8]) {
			return false
		}
		p = p[8:]
	}
	return cleanBytes(p)
}

func cleanBytes(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trimOWS removes optional white space from both ends.
func trimOWS(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
		p = p[1:]
	}
	for len(p) > 0 && (p[len(p)-1] == ' ' || p[len(p)-1] == '\t') {
		p = p[:len(p)-1]
	}
	return p
}

// lowerInPlace makes the ASCII letters of p lower case.
func lowerInPlace(p []byte) {
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			p[i] = c + ('a' - 'A')
		}
	}
}

// equalFold reports whether p is the lower-case word w in any case of letters.
func equalFold(p []byte, w string) bool {
	if len(p) != len(w) {
		return false
	}
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != w[i] {
			return false
		}
	}
	return true
}

// text returns p as a string that shares its memory: whoever keeps it sees to it
// that the slab stays and the bytes don't change.
func text(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }
