package resp

import (
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// AppendHeader appends the header line of an aggregate or a bulk string, such as "*3".
func AppendHeader(b *buffer.Buf, kind byte, n int) {
	var line [24]byte
	l := append(line[:0], kind)
	l = strconv.AppendInt(l, int64(n), 10)
	b.Append(append(l, '\r', '\n'))
}

// AppendBulk appends a bulk string.
func AppendBulk(b *buffer.Buf, text []byte) {
	AppendHeader(b, BulkString, len(text))
	b.Append(text)
	b.AppendString("\r\n")
}

// AppendText is AppendBulk of a string.
func AppendText(b *buffer.Buf, text string) {
	AppendHeader(b, BulkString, len(text))
	b.AppendString(text)
	b.AppendString("\r\n")
}

// AppendLine appends a value that is one line: a simple string, an error. What would end
// the line becomes blanks.
func AppendLine(b *buffer.Buf, kind byte, text string) {
	var line [256]byte
	l := append(line[:0], kind)
	for i := range len(text) {
		c := text[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		l = append(l, c)
	}
	b.Append(append(l, '\r', '\n'))
}

// AppendInteger appends an integer.
func AppendInteger(b *buffer.Buf, n int64) { AppendHeader(b, Integer, int(n)) }

// AppendArgs appends a command.
func AppendArgs(b *buffer.Buf, args [][]byte) {
	AppendHeader(b, Array, len(args))
	for _, a := range args {
		AppendBulk(b, a)
	}
}

// AppendCommand appends a command.
func AppendCommand(b *buffer.Buf, args ...string) {
	AppendHeader(b, Array, len(args))
	for _, a := range args {
		AppendText(b, a)
	}
}
