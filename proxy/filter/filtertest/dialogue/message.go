package dialogue

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Words that stand for the end of a read.
const (
	closed      = "(closed)"
	closedEarly = "(closed early)"
	nothing     = "(nothing)" // in time
)

// ending says in a word how a read ended.
func ending(err error, early bool) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nothing
	case alert(err) != "":
		return alert(err)
	case early:
		return closedEarly
	}
	return closed
}

// head is a message head on its way.
type head struct {
	first  string
	fields []string // "name: value", as they came
}

func (h *head) get(name string) string {
	for _, f := range h.fields {
		n, v, _ := strings.Cut(f, ":")
		if strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (h *head) lines() []string {
	out := slices.Clone(h.fields)
	slices.SortStableFunc(out, func(a, b string) int {
		return strings.Compare(fieldName(a), fieldName(b))
	})
	return append(append([]string{h.first}, out...), "")
}

// fieldName is the name of a field, with the colon of a pseudo-header.
func fieldName(line string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), ":")
	if strings.HasPrefix(line, ":") {
		name = ":" + name
	}
	return strings.ToLower(name)
}

// readHead reads lines up to an empty one. What came before an error is in h.
func readHead(r *bufio.Reader) (h head, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if line != "" {
				h.fields = append(h.fields, quote(line))
			}
			return h, err
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		switch {
		case h.first == "":
			h.first = quote(line)
		case line == "":
			return h, nil
		default:
			h.fields = append(h.fields, quote(line))
		}
	}
}

// quote makes control and non-ASCII characters visible.
func quote(s string) string {
	q := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// readMessage reads one HTTP message, answer or request, and returns it as lines.
func readMessage(r *bufio.Reader) []string {
	h, err := readHead(r)
	if err != nil {
		if h.first == "" && len(h.fields) == 0 {
			return []string{ending(err, false)}
		}
		return append(h.lines(), ending(err, true))
	}
	out := h.lines()
	response := strings.HasPrefix(h.first, "HTTP/")
	status := ""
	if f := strings.Fields(h.first); response && len(f) > 1 {
		status = f[1]
	}
	last := strings.EqualFold(h.get("connection"), "close")
	switch {
	case strings.HasPrefix(status, "1"), status == "204", status == "304":
		if last {
			out = append(out, drain(r)...)
		}
		return out
	case strings.EqualFold(h.get("transfer-encoding"), "chunked"):
		body, trailers, err := readChunks(r)
		out = append(out, decode(h.get("content-encoding"), body)...)
		if err != nil {
			return append(out, ending(err, true))
		}
		if len(trailers.fields) > 0 {
			t := trailers.lines()
			out = append(append(out, "(trailers)"), t[1:len(t)-1]...)
		}
	case h.get("content-length") != "":
		n, _ := strconv.Atoi(h.get("content-length"))
		body := make([]byte, min(n, 16<<20))
		k, err := io.ReadFull(r, body)
		out = append(out, decode(h.get("content-encoding"), body[:k])...)
		if err != nil {
			return append(out, ending(err, true))
		}
	case response:
		body, err := io.ReadAll(r)
		return append(append(out, decode(h.get("content-encoding"), body)...), ending(err, false))
	}
	if last && response {
		out = append(out, drain(r)...)
	}
	return out
}

// drain reads what should be nothing but the end.
func drain(r *bufio.Reader) []string {
	rest, err := io.ReadAll(r)
	return append(bodyLines(rest), ending(err, false))
}

func readChunks(r *bufio.Reader) (body []byte, trailers head, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return body, trailers, err
		}
		n, err := strconv.ParseUint(strings.TrimSpace(line), 16, 31)
		if err != nil {
			return body, trailers, err
		}
		if n == 0 {
			break
		}
		chunk := make([]byte, n+2)
		k, err := io.ReadFull(r, chunk)
		body = append(body, chunk[:min(k, int(n))]...)
		if err != nil {
			return body, trailers, err
		}
	}
	trailers.first = "-"
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return body, trailers, err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return body, trailers, nil
		}
		trailers.fields = append(trailers.fields, quote(line))
	}
}

// bodyLines shows a body: as text, or as length and sum if it is long.
func bodyLines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	if len(b) > 400 {
		if n := bytes.Count(b, b[:1]); n == len(b) {
			return []string{fmt.Sprintf("(%d times %s)", len(b), quote(string(b[:1])))}
		}
		return []string{fmt.Sprintf("(%d bytes, sha256 %x)", len(b), sha256.Sum256(b))}
	}
	var out []string
	for _, l := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		out = append(out, quote(l))
	}
	return out
}

var (
	uuid   = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	times  = regexp.MustCompile(`(?i)^(x-envoy-upstream-service-time): [0-9]+$`)
	dates  = regexp.MustCompile(`(?i)^(date): \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$`)
	left   = regexp.MustCompile(`(?i)^(x-envoy-expected-rq-timeout-ms): ([0-9]+)$`)
	hashed = regexp.MustCompile(`^(set-cookie: [^=]+)="[0-9a-f]{16}"`) // of addresses
	long   = regexp.MustCompile(`^([!-9;-~]+: )(.{400,})$`)
)

// normalise replaces what differs between two runs. replace are pairs of old and new.
func normalise(lines []string, replace *strings.Replacer) []string {
	for i, l := range lines {
		l = uuid.ReplaceAllString(replace.Replace(l), "UUID")
		l = times.ReplaceAllString(l, "$1: MS")
		l = dates.ReplaceAllString(l, "$1: DATE")
		l = withoutRandom(hashed.ReplaceAllString(l, "$1=HASH"))
		if m := left.FindStringSubmatch(l); m != nil {
			n, _ := strconv.Atoi(m[2]) // digits
			switch {                   // what earlier attempts took was taken off, and machines are busy
			case n > 2000:
				n = (n + 4999) / 5000 * 5000
			case n > 1000:
				n = 2000
			}
			l = fmt.Sprintf("%s: %d", m[1], n)
		}
		if m := long.FindStringSubmatch(l); m != nil {
			l = m[1] + bodyLines([]byte(m[2]))[0]
		}
		lines[i] = strings.TrimRight(l, " ")
	}
	return lines
}
