package dialogue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Part is which part of an HTTP/2 message a Send step sends.
type Part uint8

// The parts.
const (
	Whole    Part = iota // head, body and end of stream
	Head                 // HEADERS
	Data                 // DATA
	End                  // DATA with END_STREAM
	Trailers             // HEADERS with END_STREAM
)

var parts = map[string]Part{">": Whole, ">>": Whole, ">head": Head, ">data": Data, ">end": End, ">trailers": Trailers}

// wire2 is one HTTP/2 connection with a script at its end, on either side. A goroutine
// reads frames, answers SETTINGS and PING, and gives credit for what has come.
type wire2 struct {
	c      net.Conn
	client bool
	put    func([]byte) // writes, in pieces perhaps

	wmu   sync.Mutex // whoever writes frames
	buf   bytes.Buffer
	out   *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when something has come
	streams []*stream2    // in the order in which they were opened
	away    []string      // GOAWAYs that nobody has read yet
	over    bool
	manual  bool // the script has set a window: it gives the credit, too
}

// stream2 is what has come on a stream.
type stream2 struct {
	id    uint32
	heads []head // informational ones, the final one, trailers
	body  []byte
	ended bool
	said  bool // we have ended our side
	reset string

	headsRead, bodyRead int // what the script has seen
}

func newWire2(c net.Conn, isClient bool, put func([]byte)) *wire2 {
	w := &wire2{c: c, client: isClient, put: put, changed: make(chan struct{})}
	w.out = http2.NewFramer(&w.buf, nil)
	w.out.AllowIllegalWrites = true
	w.enc = hpack.NewEncoder(&w.block)
	w.write(func() error {
		if isClient {
			w.buf.WriteString(http2.ClientPreface)
		}
		return w.out.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	})
	go w.read()
	return w
}

// write sends the frames that f makes, in one piece or in many.
func (w *wire2) write(f func() error) {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	w.buf.Reset()
	if err := f(); err != nil {
		panic(err) // a buffer takes everything
	}
	_ = w.c.SetWriteDeadline(time.Now().Add(patience)) // what the peer does not take shows elsewhere
	w.put(w.buf.Bytes())
}

// read takes frames until the connection is over.
func (w *wire2) read() {
	defer w.note(func() { w.over = true })
	if !w.client {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(w.c, preface); err != nil || string(preface) != http2.ClientPreface {
			return
		}
	}
	in := http2.NewFramer(nil, w.c)
	in.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	in.MaxHeaderListSize = 1 << 20
	for {
		f, err := in.ReadFrame()
		var bad http2.StreamError
		if errors.As(err, &bad) {
			w.on(bad.StreamID, func(s *stream2) { s.reset = "refused by the script: " + bad.Code.String() })
			continue
		}
		if err != nil {
			return
		}
		w.frame(f)
	}
}

func (w *wire2) frame(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			w.write(w.out.WriteSettingsAck)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			w.write(func() error { return w.out.WritePing(true, f.Data) })
		}
	case *http2.GoAwayFrame:
		last := strconv.Itoa(int(f.LastStreamID))
		if f.LastStreamID == 1<<31-1 {
			last = "all"
		}
		w.note(func() { w.away = append(w.away, fmt.Sprintf("GOAWAY %s %s", last, f.ErrCode)) })
	case *http2.MetaHeadersFrame:
		w.on(f.StreamID, func(s *stream2) {
			s.heads = append(s.heads, headOf(f.Fields))
			s.ended = s.ended || f.StreamEnded()
		})
	case *http2.DataFrame:
		w.on(f.StreamID, func(s *stream2) {
			s.body = append(s.body, f.Data()...)
			s.ended = s.ended || f.StreamEnded()
		})
		w.credit(f)
	case *http2.RSTStreamFrame:
		w.on(f.StreamID, func(s *stream2) { s.reset = f.ErrCode.String() })
	}
}

// credit lets the peer send as much again as it has sent.
func (w *wire2) credit(f *http2.DataFrame) {
	n := f.Length
	w.mu.Lock()
	manual := w.manual
	w.mu.Unlock()
	if n == 0 || manual {
		return
	}
	w.write(func() error {
		if err := w.out.WriteWindowUpdate(0, n); err != nil || f.StreamEnded() {
			return err
		}
		return w.out.WriteWindowUpdate(f.StreamID, n)
	})
}

// note changes what has come and wakes whoever waits for it.
func (w *wire2) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// on notes something about a stream, which a peer may just have opened.
func (w *wire2) on(id uint32, f func(*stream2)) {
	w.note(func() {
		for _, s := range w.streams {
			if s.id == id {
				f(s)
				return
			}
		}
		s := &stream2{id: id}
		w.streams = append(w.streams, s)
		f(s)
	})
}

// id is the identifier of the nth stream of the connection. A client opens it.
func (w *wire2) id(n int) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.client && len(w.streams) < n {
		w.streams = append(w.streams, &stream2{id: uint32(2*len(w.streams) + 1)})
	}
	if n <= len(w.streams) {
		return w.streams[n-1].id
	}
	return uint32(2*n - 1)
}

// send sends what a step says.
func (w *wire2) send(st *Step, data []byte) error {
	if st.Stream == 0 {
		return w.command(strings.Fields(string(data)))
	}
	id := w.id(st.Stream)
	var err error
	w.write(func() error {
		err = w.frames(st.Part, id, data)
		return nil
	})
	if st.Part == Whole || st.Part == End || st.Part == Trailers {
		w.on(id, func(s *stream2) { s.said = true })
	}
	return err
}

// frames writes the frames of a part of a message. Lines end in CRLF; that of the last
// one is not sent.
func (w *wire2) frames(part Part, id uint32, data []byte) error {
	switch part {
	case Data, End:
		return w.data(id, bytes.TrimSuffix(data, []byte("\r\n")), part == End)
	case Trailers:
		return w.head(id, strings.Split(strings.TrimRight(string(data), "\r\n"), "\r\n"), true)
	}
	text, body, _ := bytes.Cut(data, []byte("\r\n\r\n"))
	body = bytes.TrimSuffix(body, []byte("\r\n"))
	lines := strings.Split(strings.TrimRight(string(text), "\r\n"), "\r\n")
	if err := w.head(id, lines, part == Whole && len(body) == 0); err != nil || len(body) == 0 {
		return err
	}
	return w.data(id, body, part == Whole)
}

// maxData is what fits into a frame, whatever the peer's settings.
const maxData = 16 << 10

func (w *wire2) data(id uint32, b []byte, end bool) error {
	for len(b) > maxData {
		if err := w.out.WriteData(id, false, b[:maxData]); err != nil {
			return err
		}
		b = b[maxData:]
	}
	return w.out.WriteData(id, end, b)
}

// head writes a header section. "GET /path HTTP/2" and "HTTP/2 200" in the first line
// stand for the pseudo-headers; without them the lines are taken as they are.
func (w *wire2) head(id uint32, lines []string, end bool) error {
	w.block.Reset()
	field := func(name, value string) {
		_ = w.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // into a buffer
	}
	first := strings.Fields(lines[0])
	switch {
	case len(first) == 2 && first[0] == "HTTP/2":
		field(":status", first[1])
		lines = lines[1:]
	case len(first) >= 2 && first[len(first)-1] == "HTTP/2":
		field(":method", first[0])
		if len(first) == 3 {
			field(":scheme", "http")
			field(":path", first[1])
		}
		lines = lines[1:]
	}
	for _, l := range lines {
		colon := ""
		if strings.HasPrefix(l, ":") {
			colon, l = ":", l[1:]
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			return fmt.Errorf("a field is name: value, not %q", l)
		}
		field(colon+name, strings.TrimPrefix(value, " "))
	}
	b := w.block.Bytes()
	n := min(len(b), maxData)
	err := w.out.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:n], EndStream: end, EndHeaders: n == len(b)})
	for b = b[n:]; err == nil && len(b) > 0; b = b[n:] {
		n = min(len(b), maxData)
		err = w.out.WriteContinuation(id, n == len(b), b[:n])
	}
	return err
}

var settings2 = map[string]http2.SettingID{
	"initial_window_size": http2.SettingInitialWindowSize, "max_concurrent_streams": http2.SettingMaxConcurrentStreams,
	"header_table_size": http2.SettingHeaderTableSize, "max_frame_size": http2.SettingMaxFrameSize,
}

// command sends a frame of the connection: "settings NAME VALUE", "window STREAM BYTES",
// "goaway STREAM CODE", "ping".
func (w *wire2) command(words []string) (err error) {
	if len(words) == 1 && words[0] == "ping" {
		w.write(func() error { return w.out.WritePing(false, [8]byte{1}) })
		return nil
	}
	if len(words) != 3 {
		return fmt.Errorf("not a frame of a connection: %q", words)
	}
	n, numErr := strconv.ParseUint(words[2], 10, 31)
	stream, streamErr := strconv.Atoi(words[1])
	switch words[0] {
	case "settings":
		id, ok := settings2[words[1]]
		if !ok || numErr != nil {
			return fmt.Errorf("not a setting: %q", words)
		}
		w.mu.Lock()
		w.manual = w.manual || id == http2.SettingInitialWindowSize
		w.mu.Unlock()
		w.write(func() error { return w.out.WriteSettings(http2.Setting{ID: id, Val: uint32(n)}) })
	case "window":
		if streamErr != nil || numErr != nil {
			return fmt.Errorf("not a stream and a number: %q", words)
		}
		id := uint32(0)
		if stream > 0 {
			id = w.id(stream)
		}
		w.write(func() error { return w.out.WriteWindowUpdate(id, uint32(n)) })
	case "goaway":
		code, codeErr := codeOf(words[2])
		if streamErr != nil || codeErr != nil {
			return fmt.Errorf("not a stream and a code: %q", words)
		}
		id := uint32(0)
		if stream > 0 {
			id = w.id(stream)
		}
		w.write(func() error { return w.out.WriteGoAway(id, code, nil) })
	default:
		return fmt.Errorf("not a frame of a connection: %q", words)
	}
	return nil
}

func codeOf(name string) (http2.ErrCode, error) {
	for c := http2.ErrCodeNo; c <= http2.ErrCodeHTTP11Required; c++ {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("not an error code of HTTP/2: %q", name)
}

// act resets a stream ("reset CODE").
func (w *wire2) act(stream int, what string) error {
	name, ok := strings.CutPrefix(what, "reset")
	if name = strings.TrimSpace(name); !ok {
		return fmt.Errorf("a stream can be reset, not %q", what)
	}
	if name == "" {
		name = "CANCEL"
	}
	code, err := codeOf(name)
	if err != nil {
		return err
	}
	id := w.id(stream)
	w.write(func() error { return w.out.WriteRSTStream(id, code) })
	return nil
}

// headOf makes of fields what a head of HTTP/1 would be.
func headOf(fields []hpack.HeaderField) (h head) {
	var method, path string
	for _, f := range fields {
		switch f.Name {
		case ":status":
			h.first = "HTTP/2 " + f.Value
		case ":method":
			method = f.Value
		case ":path":
			path = " " + f.Value
		default:
			h.fields = append(h.fields, quote(f.Name+": "+f.Value))
		}
	}
	if method != "" {
		h.first = quote(method + path + " HTTP/2")
	}
	return h
}

// wait waits until done, with the lock held, and reports whether it was in time.
func (w *wire2) wait(done func() bool) bool {
	t := time.NewTimer(patience)
	defer t.Stop()
	for {
		w.mu.Lock()
		ok, changed := done(), w.changed
		w.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-t.C:
			return false
		}
	}
}

// seen reads what a step asks for.
func (w *wire2) seen(st *Step) []string {
	if st.Stream == 0 {
		return w.connection(st)
	}
	var s *stream2
	there := w.wait(func() bool {
		if w.client && st.Stream > len(w.streams) {
			return w.over
		}
		if st.Stream > len(w.streams) {
			return w.over
		}
		s = w.streams[st.Stream-1]
		return true
	})
	if s == nil {
		return []string{ending(errUnless(there), false)}
	}
	var out []string
	there = w.wait(func() bool {
		var done bool
		out, done = s.take(st, w.over)
		return done
	})
	if !there {
		out = append(out, nothing)
	}
	return out
}

func errUnless(inTime bool) error {
	if inTime {
		return io.EOF
	}
	return os.ErrDeadlineExceeded
}

// take returns what has come of what a step asks for, and whether that is all of it.
func (s *stream2) take(st *Step, over bool) (out []string, done bool) {
	stop := s.reset != "" || over
	final := s.headsRead
	switch st.Op {
	case ReadHead:
		if len(s.heads) > s.headsRead {
			s.headsRead++
			return s.heads[s.headsRead-1].lines(), true
		}
		return []string{s.why(over)}, stop
	case ReadN:
		if n := s.bodyRead + st.N; len(s.body) >= n || s.ended || stop {
			b := s.body[s.bodyRead:min(n, len(s.body))]
			s.bodyRead += len(b)
			out = bodyLines(b)
			if len(b) < st.N {
				out = append(out, s.why(over))
			}
			return out, true
		}
		return bodyLines(s.body[s.bodyRead:]), false
	case ReadEnd:
		return []string{s.why(over)}, stop || s.ended && s.said
	}
	if !s.ended && !stop && !s.informational() {
		return s.message(), false
	}
	if s.informational() {
		s.headsRead++
		return s.heads[final].lines(), true
	}
	out = s.message()
	s.headsRead, s.bodyRead = len(s.heads), len(s.body)
	if !s.ended {
		out = append(out, s.why(over))
	}
	return out, true
}

// informational reports whether a 1xx response is to be read next.
func (s *stream2) informational() bool {
	return s.headsRead < len(s.heads) && strings.HasPrefix(s.heads[s.headsRead].first, "HTTP/2 1")
}

// message is what of a message has come and was not read.
func (s *stream2) message() (out []string) {
	heads := s.heads[s.headsRead:]
	if len(heads) > 0 && heads[0].first != "" {
		out = heads[0].lines()
		heads = heads[1:]
	}
	out = append(out, bodyLines(s.body[s.bodyRead:])...)
	for _, t := range heads {
		out = append(append(out, "(trailers)"), slices.DeleteFunc(t.lines(), func(l string) bool { return l == "" })...)
	}
	return out
}

// why is how a stream ended.
func (s *stream2) why(over bool) string {
	switch {
	case s.reset != "":
		return "(reset " + s.reset + ")"
	case over && !s.ended:
		return closedEarly
	case over:
		return closed
	}
	return "(end)"
}

// connection reads what concerns the connection: the next GOAWAY, or all until its end.
func (w *wire2) connection(st *Step) (out []string) {
	inTime := w.wait(func() bool { return w.over || st.Op != ReadEnd && len(w.away) > 0 })
	w.mu.Lock()
	defer w.mu.Unlock()
	if st.Op != ReadEnd && len(w.away) > 0 {
		out, w.away = w.away[:1], w.away[1:]
		return slices.Clone(out)
	}
	out, w.away = slices.Clone(w.away), nil
	if !inTime {
		return append(out, nothing)
	}
	return append(out, closed)
}
