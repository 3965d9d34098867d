package dialogue

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// coded is text of a script that is sent in a content coding, as one chunk perhaps.
var coded = regexp.MustCompile(`\{\{(chunk )?(gzip|br|zstd|text) (.*?)\}\}`)

// encodeAll replaces the {{gzip TEXT}} of what is sent by escapes.
func encodeAll(text string) (string, error) {
	var failed error
	text = coded.ReplaceAllStringFunc(text, func(s string) string {
		m := coded.FindStringSubmatch(s)
		plain, err := unescape(m[3])
		if err != nil {
			failed = err
			return s
		}
		data := encode(m[2], plain)
		if m[1] != "" {
			data = fmt.Appendf(nil, "%x\r\n%s\r\n", len(data), data)
		}
		var out strings.Builder
		for _, c := range data {
			fmt.Fprintf(&out, `\x%02x`, c)
		}
		return out.String()
	})
	return text, failed
}

func encode(coding string, plain []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "br":
		w = brotli.NewWriter(&out)
	case "zstd":
		w, _ = zstd.NewWriter(&out) // no options, no error
	default:
		return plain
	}
	_, _ = w.Write(plain) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// most bytes of a decoded body.
const mostDecoded = 16 << 20

// decode returns the lines of a body that has a content coding: its name, and what was
// coded. One that isn't what the head says is shown as it is.
func decode(coding string, body []byte) []string {
	var r io.Reader
	switch in := bytes.NewReader(body); coding {
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return bodyLines(body)
		}
		r = z
	case "br":
		r = brotli.NewReader(in)
	case "zstd":
		z, err := zstd.NewReader(in)
		if err != nil {
			return bodyLines(body)
		}
		defer z.Close()
		r = z
	default:
		return bodyLines(body)
	}
	plain, err := io.ReadAll(io.LimitReader(r, mostDecoded))
	if err != nil && len(plain) == 0 {
		return bodyLines(body)
	}
	name := "(" + coding + ")"
	if err != nil {
		name = "(" + coding + ", broken)"
	}
	return append([]string{name}, bodyLines(plain)...)
}
