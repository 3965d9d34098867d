package resp

import "bytes"

// Command takes one command from the beginning of p: an array of bulk strings, or a line
// of words (an inline command). It returns the arguments, appended to args, as views of p,
// and how many bytes the command takes; 0 if it is not complete. What is RESP, but no
// array of bulk strings, and an empty array have no arguments.
//
// p must be limited by the caller: what a command of up to MaxElements bulk strings of up to
// MaxBulk bytes may take does not fit in memory.
func Command(p []byte, args [][]byte) ([][]byte, int, error) {
	if len(p) == 0 {
		return args, 0, nil
	}
	switch p[0] {
	case Array:
		return array(p, args)
	case SimpleString, Error, Integer, BulkString, Null, Boolean, Double, BigNumber, BulkError, VerbatimString, Map, Set, Push:
		n, err := end(p)
		return args, n, err
	}
	return inline(p, args)
}

// end returns where the value at the beginning of p ends, 0 if it is not complete.
func end(p []byte) (int, error) {
	var s Scanner
	n, done, err := s.Scan(p)
	if err != nil || !done {
		return 0, err
	}
	return n, nil
}

// Head takes the first arguments, want at most, of the array of bulk strings at the
// beginning of p, which need not be complete, and tells how many there are in all. ok is
// false if p does not begin so, or does not hold them all.
func Head(p []byte, args [][]byte, want int) (_ [][]byte, count int, ok bool) {
	if len(p) == 0 || p[0] != Array {
		return args, 0, false
	}
	line, at, err := headerLine(p, 0)
	if at == 0 || err != nil {
		return args, 0, false
	}
	n, ok := integer(line[1:], MaxElements)
	if !ok {
		return args, 0, false
	}
	for range min(int(n), want) {
		line, next, err := headerLine(p, at)
		if next == 0 || err != nil || line[0] != BulkString {
			return args, 0, false
		}
		size, ok := integer(line[1:], MaxBulk)
		last := next + int(size)
		if !ok || size < 0 || len(p) < last+2 {
			return args, 0, false
		}
		args = append(args, p[next:last:last])
		at = last + 2
	}
	return args, int(n), true
}

func array(p []byte, args [][]byte) ([][]byte, int, error) {
	line, at, err := headerLine(p, 0)
	if at == 0 || err != nil {
		return args, 0, err
	}
	count, ok := integer(line[1:], MaxElements)
	if !ok {
		return args, 0, ErrSyntax
	}
	first := len(args)
	for i := int64(0); i < count; i++ {
		line, next, err := headerLine(p, at)
		if next == 0 || err != nil {
			return args[:first], 0, err
		}
		if line[0] != BulkString {
			n, err := end(p)
			return args[:first], n, err
		}
		size, ok := integer(line[1:], MaxBulk)
		if !ok {
			return args[:first], 0, ErrSyntax
		}
		if size < 0 {
			n, err := end(p)
			return args[:first], n, err
		}
		last := next + int(size)
		if len(p) < last+2 {
			if len(p) > last && p[last] != '\r' {
				return args[:first], 0, ErrSyntax
			}
			return args[:first], 0, nil
		}
		if p[last] != '\r' || p[last+1] != '\n' {
			return args[:first], 0, ErrSyntax
		}
		args = append(args, p[next:last:last])
		at = last + 2
	}
	return args, at, nil
}

// headerLine returns the line at p[at:] without its end, and where the next one begins, 0
// if it is not complete.
func headerLine(p []byte, at int) (line []byte, next int, err error) {
	const longest = 32
	p = p[at:]
	i := bytes.IndexByte(p[:min(len(p), longest)], '\n')
	switch {
	case i < 0 && len(p) >= longest:
		return nil, 0, ErrSyntax
	case i < 0:
		return nil, 0, nil
	case i < 2 || p[i-1] != '\r':
		return nil, 0, ErrSyntax
	}
	return p[:i-1], at + i + 1, nil
}

// inline takes a line of words. Redis ends it at LF, whether there is a CR or not.
func inline(p []byte, args [][]byte) ([][]byte, int, error) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		if len(p) > maxLine || !printable(p) {
			return args, 0, ErrSyntax
		}
		return args, 0, nil
	}
	line := bytes.TrimSuffix(p[:i], []byte{'\r'})
	if !printable(line) {
		return args, 0, ErrSyntax
	}
	for word := range bytes.FieldsSeq(line) {
		args = append(args, word)
	}
	return args, i + 1, nil
}

// printable reports whether p has no control characters but blanks and CR.
func printable(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\t' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return true
}
