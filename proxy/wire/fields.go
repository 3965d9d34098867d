package wire

import "encoding/binary"

// Fields reads a message field by field: numbers come as n, strings, bytes and messages as a
// view of b. It reports whether b is a message; what of it came before is not to be used
// then. Fields of the four bytes are numbers, groups are none.
func Fields(b []byte, yield func(field int, n uint64, v []byte)) bool {
	for len(b) > 0 {
		key, k := binary.Uvarint(b)
		if k <= 0 || key>>3 == 0 || key>>3 > 1<<29-1 {
			return false
		}
		b = b[k:]
		var n uint64
		var v []byte
		switch key & 7 {
		case 0:
			if n, k = binary.Uvarint(b); k <= 0 {
				return false
			}
			b = b[k:]
		case 1:
			if len(b) < 8 {
				return false
			}
			n, b = binary.LittleEndian.Uint64(b), b[8:]
		case 2:
			size, k := binary.Uvarint(b)
			if k <= 0 || size > uint64(len(b)-k) {
				return false
			}
			v, b = b[k:k+int(size)], b[k+int(size):]
		case 5:
			if len(b) < 4 {
				return false
			}
			n, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		default:
			return false
		}
		yield(int(key>>3), n, v)
	}
	return true
}
