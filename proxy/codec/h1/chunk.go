package h1

// Chunked framing (RFC 9112 7.1).

type chunkState uint8

const (
	chunkSize   chunkState = iota // before the first digit of a size
	chunkDigits                   // in a size
	chunkSpace                    // in white space after a size
	chunkExt                      // in extensions
	chunkSizeLF                   // after the CR of a size line
	chunkData                     // in data: left bytes to come
	chunkDataCR                   // after data
	chunkDataLF                   // after data and CR
	chunkLast                     // after the size line of the last chunk
)

// maxChunkExt is the most bytes of extensions on one size line: they carry nothing
// that anyone uses, and unbounded they cost a reader more than the body.
const maxChunkExt = 4 << 10

// chunks decodes chunked framing as it arrives. The zero value stands at the
// first chunk.
type chunks struct {
	state chunkState
	left  int64 // of the size or the data of the current chunk
	ext   int
}

// skip consumes framing from the front of p up to data (state is chunkData then,
// left says how many bytes), the trailer section (chunkLast) or the end of p, and
// returns how many bytes it consumed.
func (c *chunks) skip(p []byte) (int, error) {
	for i, b := range p {
		switch c.state {
		case chunkData, chunkLast:
			return i, nil
		case chunkSize, chunkDigits, chunkSpace, chunkExt:
			if err := c.sizeLine(b); err != nil {
				return i, err
			}
		case chunkSizeLF:
			if b != '\n' {
				return i, malformed("carriage return in a chunk size line")
			}
			c.endSize()
		case chunkDataCR:
			if b != '\r' {
				return i, malformed("chunk is longer than its size")
			}
			c.state = chunkDataLF
		case chunkDataLF:
			if b != '\n' {
				return i, malformed("chunk is longer than its size")
			}
			c.state, c.left = chunkSize, 0
		}
	}
	return len(p), nil
}

func (c *chunks) sizeLine(b byte) error {
	d := hexDigit[b]
	switch {
	case d != 0 && c.state <= chunkDigits:
		if c.left > maxLength>>4 {
			return malformed("chunk size overflows")
		}
		c.left = c.left<<4 | int64(d-1)
		c.state = chunkDigits
	case c.state == chunkSize:
		return malformed("chunk has no size")
	case b == '\r':
		c.state = chunkSizeLF
	case b == '\n':
		return malformed("bare line feed in a chunk size line")
	case c.state == chunkExt:
		return c.extension(b)
	case b == ';':
		c.state = chunkExt
	case b == ' ' || b == '\t':
		c.state = chunkSpace
		return c.extension(b)
	default:
		return malformed("chunk size is no hexadecimal number")
	}
	return nil
}

func (c *chunks) extension(b byte) error {
	c.ext++
	if c.ext > maxChunkExt || b < ' ' && b != '\t' || b == 0x7f {
		return malformed("chunk extension is too long or has control characters")
	}
	return nil
}

func (c *chunks) endSize() {
	c.ext = 0
	c.state = chunkData
	if c.left == 0 {
		c.state = chunkLast
	}
}

// took says that n bytes of data were consumed.
func (c *chunks) took(n int) {
	c.left -= int64(n)
	if c.left == 0 {
		c.state = chunkDataCR
	}
}

// hexDigit maps hexadecimal digits to their value plus one, all others to 0.
var hexDigit = [256]byte{
	'0': 1, '1': 2, '2': 3, '3': 4, '4': 5, '5': 6, '6': 7, '7': 8, '8': 9, '9': 10,
	'a': 11, 'b': 12, 'c': 13, 'd': 14, 'e': 15, 'f': 16,
	'A': 11, 'B': 12, 'C': 13, 'D': 14, 'E': 15, 'F': 16,
}

// AppendChunkSize appends the size line of a chunk of n bytes.
func AppendChunkSize(dst []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 0
	for n>>shift > 15 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return append(dst, '\r', '\n')
}
