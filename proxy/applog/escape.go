package applog

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// appendJSON writes text as the inside of a JSON string.
func appendJSON(b, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRune(text[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
	}
	return b
}

// appendEscaped writes text with C escapes for what would break a line or a
// terminal (--log-format-escaped).
func appendEscaped(b, text []byte) []byte {
	for _, c := range text {
		switch {
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '"' || c == '\'' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendOneLine writes text with its newlines as \n (%_).
func appendOneLine(b, text []byte) []byte {
	for _, c := range text {
		if c == '\n' {
			b = append(b, '\\', 'n')
			continue
		}
		b = append(b, c)
	}
	return b
}
