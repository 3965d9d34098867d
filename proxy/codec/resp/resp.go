// Package resp is the Redis serialization protocol, versions 2 and 3: where a value ends
// in a stream of bytes, what the arguments of a command are, and how to write values.
// Source: the RESP specification of redis.io.
//
// Replies are not turned into objects: whoever relays them needs their ends, not their
// contents.
package resp

import "errors"

// The first byte of a value tells its kind.
const (
	SimpleString   = '+'
	Error          = '-'
	Integer        = ':'
	BulkString     = '$'
	Array          = '*'
	Null           = '_'
	Boolean        = '#'
	Double         = ','
	BigNumber      = '('
	BulkError      = '!'
	VerbatimString = '='
	Map            = '%'
	Attribute      = '|' // goes before a value
	Set            = '~'
	Push           = '>' // answers no command
)

const (
	// MaxBulk is the most bytes of a bulk string, as Redis has it unless told otherwise
	// (proto-max-bulk-len).
	MaxBulk = 512 << 20
	// MaxElements is the most elements of a command, as Redis has it; replies may have more.
	MaxElements = 1 << 20
	maxReply    = 1 << 31 // elements of an aggregate in a reply
	maxDepth    = 32      // aggregates inside each other; Redis itself stays below 8
	maxLine     = 64 << 10
)

// ErrSyntax is bytes that are no RESP.
var ErrSyntax = errors.New("resp: bytes that are no RESP value")

// integer parses the decimal digits of a header line. It takes no sign but that of -1.
func integer(b []byte, most int64) (int64, bool) {
	if len(b) == 2 && b[0] == '-' && b[1] == '1' {
		return -1, true
	}
	if len(b) == 0 || len(b) > 11 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, n <= most
}
