package hcm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// exchange is a request and what becomes of it.
type exchange struct {
	id             int
	method, target string
	fields         [][2]string
	body           message
	cancelAt       int // how much of the answer's body the client reads before it goes; -1: all
	breakAt        int // how much of its own body it sends before it goes; -1: all
	expect         bool

	early        bool  // the answer does not wait for the request's body
	hints        []int // statuses before the final one
	status       int
	answerFields [][2]string
	answer       message
	abortAt      int // how much of the answer upstream sends before it resets; -1: all
}

// message is a body with what follows.
type message struct {
	size     int
	declared bool // by content-length
	trailers [][2]string
}

// whole reports whether nobody breaks the exchange off.
func (x *exchange) whole() bool { return x.cancelAt < 0 && x.breakAt < 0 && x.abortAt < 0 }

// bodiless reports whether the answer has no body whatever upstream says.
func (x *exchange) bodiless() bool {
	return x.method == "HEAD" || x.status == 204 || x.status == 304
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomSize(r *rand.Rand) int {
	return pick(r, 0, 0, 1, r.IntN(100), r.IntN(20<<10), 16384, 65535, 65536, r.IntN(300<<10))
}

func randomFields(r *rand.Rand, prefix string, most int) (out [][2]string) {
	for range r.IntN(most + 1) {
		value := pick(r, "", "v", "a, b", "\xc3\xa9", strings.Repeat("long", r.IntN(500)), strconv.Itoa(r.Int()))
		out = append(out, [2]string{prefix + strconv.Itoa(r.IntN(8)), value})
	}
	return out
}

// randomTrailers are short: net/http takes no more than 4 KiB of them behind chunks.
func randomTrailers(r *rand.Rand, prefix string) (out [][2]string) {
	for _, f := range randomFields(r, prefix, 4) {
		out = append(out, [2]string{f[0], fmt.Sprintf("%.600s", f[1])})
	}
	return out
}

// randomExchange makes an exchange; broken: somebody breaks it off.
func randomExchange(r *rand.Rand, id int, broken bool) *exchange {
	x := &exchange{
		id: id, method: pick(r, "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PURGE"),
		target: pick(r, "/", "/a/b?c=d&e", "/%41%2f", "/"+strings.Repeat("p", r.IntN(2000)), "/?"),
		fields: randomFields(r, "x-f", 12), cancelAt: -1, breakAt: -1, abortAt: -1,
		status: pick(r, 200, 200, 200, 201, 204, 304, 404, 500), answerFields: randomFields(r, "x-a", 12),
	}
	for i := range pick(r, 0, 0, 1, 3, 60) {
		x.fields = append(x.fields, [2]string{"cookie", fmt.Sprintf("c%d=%d", i, r.Int())})
	}
	for i := range pick(r, 0, 1, 20) {
		x.answerFields = append(x.answerFields, [2]string{"set-cookie", fmt.Sprintf("s%d=%d; path=/", i, r.Int())})
	}
	if x.method != "HEAD" {
		x.body = message{size: randomSize(r), declared: r.IntN(2) == 0}
	}
	if x.body.size > 0 && !x.body.declared && r.IntN(2) == 0 {
		x.body.trailers = randomTrailers(r, "x-t")
	}
	x.expect = x.body.size > 0 && r.IntN(4) == 0
	if x.answer = (message{size: randomSize(r), declared: r.IntN(2) == 0}); x.bodiless() {
		x.answer = message{}
	} else if !x.answer.declared && r.IntN(2) == 0 {
		x.answer.trailers = randomTrailers(r, "x-u")
	}
	for range pick(r, 0, 0, 0, 1, 3) {
		x.hints = append(x.hints, pick(r, 102, 103))
	}
	if broken {
		x.breakOff(r)
	}
	return x
}

// breakOff chooses who breaks the exchange off, and when.
func (x *exchange) breakOff(r *rand.Rand) {
	x.expect = false
	switch n := r.IntN(4); {
	case n == 0 && x.body.size > 0:
		x.breakAt = r.IntN(x.body.size)
	case n == 1 && x.answer.size > 0:
		x.cancelAt = r.IntN(x.answer.size)
	case n == 2 && x.answer.size > 0:
		x.abortAt = r.IntN(x.answer.size)
	case x.body.size < 200<<10: // beyond this net/http's server resets the connection
		x.early = true
		// Its HTTP/2 server takes trailers that cross its RST_STREAM for the fault of the
		// connection, which RFC 9113 5.1 forbids.
		x.body.trailers = nil
	}
}

// content is a body of n bytes, another one for each id.
func content(id, n int) []byte {
	b := bytes.Repeat([]byte(fmt.Sprintf("%08x", id)), n/8+1)
	return b[:n]
}

// told is what one side got, as text.
type told struct {
	lines []string
}

func (o *told) add(format string, args ...any) {
	o.lines = append(o.lines, fmt.Sprintf(format, args...))
}

// fields adds those that the proxy has no part in.
func (o *told) fields(what string, h http.Header) {
	var lines []string
	for name, values := range h {
		switch lower := strings.ToLower(name); {
		case lower == "cookie": // RFC 9113 8.2.3
			lines = append(lines, what+" cookie: "+strings.Join(values, "; "))
		case strings.HasPrefix(lower, "x-") && len(lower) == 4, lower == "set-cookie", lower == "content-type", lower == "user-agent":
			for _, v := range values {
				lines = append(lines, what+" "+lower+": "+v)
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		a, _, _ = strings.Cut(a, ":")
		b, _, _ = strings.Cut(b, ":")
		return strings.Compare(a, b)
	})
	o.lines = append(o.lines, lines...)
}

func (o *told) body(b []byte) { o.add("%d bytes, %x", len(b), sha256.Sum256(b)) }

// String is what has to be the same whatever the protocols are.
func (o *told) String() string { return strings.Join(o.lines, "\n") }

// application is upstream: it does what the exchange says and notes what it got.
type application struct {
	script []*exchange

	mu   sync.Mutex
	seen map[string]string // by the way and the exchange
	bad  []string
}

// ServeHTTP implements http.Handler.
func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.Header.Get("x-id"))
	if err != nil || id >= len(a.script) {
		http.Error(w, "no such exchange", 400)
		return
	}
	x, way := a.script[id], r.Header.Get("x-way")
	if !x.early {
		a.note(way, x, r)
	}
	for i, status := range x.hints {
		w.Header().Set("x-a0", fmt.Sprint("hint ", i))
		w.WriteHeader(status)
	}
	w.Header().Del("x-a0")
	if x.status != 304 { // net/http's servers differ here
		w.Header().Set("content-type", "text/x")
	}
	for _, f := range x.answerFields {
		w.Header().Add(f[0], f[1])
	}
	body := content(id, x.answer.size)
	if x.answer.declared && !x.bodiless() {
		w.Header().Set("content-length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(x.status)
	if x.abortAt >= 0 {
		_, _ = w.Write(body[:x.abortAt]) // it is about to be cut off anyway
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for len(body) > 0 {
		n := min(len(body), 7000)
		if _, err := w.Write(body[:n]); err != nil {
			return
		}
		body = body[n:]
	}
	if len(x.answer.trailers) > 0 {
		_ = http.NewResponseController(w).Flush() // or net/http counts the body
		for _, f := range x.answer.trailers {
			w.Header().Add(http.TrailerPrefix+f[0], f[1])
		}
	}
}

// note reads the request.
func (a *application) note(way string, x *exchange, r *http.Request) {
	var o told
	o.add("%s %s %s", r.Method, r.Host, r.RequestURI)
	if x.body.declared && r.ContentLength != int64(x.body.size) {
		o.add("content-length %d", r.ContentLength)
	}
	o.fields("field", r.Header)
	b, err := io.ReadAll(r.Body)
	o.body(b)
	o.fields("trailer", r.Trailer)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && x.breakAt >= 0 {
		a.bad = append(a.bad, fmt.Sprintf("%s, exchange %d: upstream got a whole request of %d bytes that the client broke off after %d of %d", way, x.id, len(b), x.breakAt, x.body.size))
	}
	if err != nil && x.whole() {
		o.add("error: %v", err)
	}
	a.seen[way+" "+strconv.Itoa(x.id)] = o.String()
}

var errBreak = errors.New("the client breaks off")

// upload is a request's body.
type upload struct {
	r    *bytes.Reader
	left int // until it breaks off; -1: never
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.left == 0 {
		return 0, errBreak
	}
	if u.left > 0 {
		p = p[:min(len(p), u.left)]
	}
	n, err := u.r.Read(p)
	if u.left > 0 {
		u.left -= n
	}
	return n, err
}

// request is what the client sends.
func (x *exchange) request(ctx context.Context, way, base string) (*http.Request, error) {
	var body io.Reader
	if x.body.size > 0 {
		body = &upload{bytes.NewReader(content(x.id, x.body.size)), x.breakAt}
	}
	q, err := http.NewRequestWithContext(ctx, x.method, base+x.target, body)
	if err != nil {
		return nil, err
	}
	q.Host = "shop.example"
	q.Header.Set("x-id", strconv.Itoa(x.id))
	q.Header.Set("x-way", way)
	q.Header.Set("user-agent", "mixed")
	for _, f := range x.fields {
		q.Header.Add(f[0], f[1])
	}
	if x.expect {
		q.Header.Set("expect", "100-continue")
	}
	switch {
	case x.body.size == 0:
	case x.body.declared:
		q.ContentLength = int64(x.body.size)
	default:
		q.ContentLength = -1
		q.Trailer = http.Header{}
		for _, f := range x.body.trailers {
			q.Trailer.Add(f[0], f[1])
		}
	}
	return q, nil
}

// patience is for an exchange on a busy machine.
const mixedPatience = 30 * time.Second

// perform has a client make the exchange. What it says of one that is broken off is ""
// unless it should not be so.
func (x *exchange) perform(client *http.Client, way, base string) string {
	ctx, cancel := context.WithTimeout(context.Background(), mixedPatience)
	defer cancel()
	var o told
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code != 100 {
			o.add("%d", code)
			o.fields("hint", http.Header(h))
		}
		return nil
	}})
	q, err := x.request(ctx, way, base)
	if err != nil {
		return err.Error()
	}
	r, err := client.Do(q)
	switch {
	case ctx.Err() != nil:
		return "the answer did not come"
	case err != nil && x.whole() && !x.early:
		return "no answer: " + err.Error()
	case err != nil: // net/http also gives up an early answer if it cannot send the rest
		return ""
	}
	defer r.Body.Close()
	if x.cancelAt >= 0 {
		_, _ = io.CopyN(io.Discard, r.Body, int64(x.cancelAt)) // we go anyway
		return ""
	}
	b, err := io.ReadAll(r.Body)
	switch {
	case ctx.Err() != nil:
		return "the answer did not end"
	case x.breakAt >= 0:
		return ""
	case x.abortAt >= 0:
		if err == nil && r.StatusCode == x.status {
			return fmt.Sprintf("the client got a whole answer of %d bytes that upstream broke off after %d of %d", len(b), x.abortAt, x.answer.size)
		}
		return ""
	case err != nil:
		return fmt.Sprintf("after %d of %d bytes: %v", len(b), x.answer.size, err)
	}
	o.add("%d", r.StatusCode)
	if x.answer.declared && r.ContentLength != int64(x.answer.size) {
		o.add("content-length %d", r.ContentLength)
	}
	o.fields("field", r.Header)
	if o.body(b); r.Header.Get("content-type") == "text/plain" { // the proxy's own
		o.add("%s", b)
	}
	o.fields("trailer", r.Trailer)
	return o.String()
}
