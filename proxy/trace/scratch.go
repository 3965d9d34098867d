package trace

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// scratch holds memory for spans and texts that are written.
var scratch = sync.Pool{New: func() any { return new(make([]byte, 0, 1<<10)) }}

// Valid makes a text one that protobuf takes, which a header field need not be.
func Valid(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return strings.ToValidUTF8(text, "!")
}
