package dialogue

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// patience is how long a step waits for what it expects: long, for machines that are busy
// with other things.
const patience = 15 * time.Second

// Proxy is a running proxy whose listeners are those of the cases.
type proxy interface {
	// stat returns the value of a counter or gauge, "" if there is none.
	stat(name string) string
	// active is how many requests a cluster has under way.
	active(cluster string) int
	// post posts to the admin endpoint.
	post(path string) error
}

// wire is one connection with a script at its end.
type wire struct {
	c   net.Conn
	r   *bufio.Reader
	two *wire2 // HTTP/2

	who string
}

// player plays one case.
type player struct {
	s       *site
	p       proxy
	rnd     *rand.Rand // nil: each step is one write
	wires   map[string]*wire
	replace *strings.Replacer
	sender  string          // the client that has sent last
	open    map[string]bool // clients' connections and streams whose last request is not answered
	logged  int             // log lines consumed
}

// play runs a case and returns its steps with what was seen in place of what was
// expected.
func play(s *site, p proxy, rnd *rand.Rand) ([]Step, error) {
	pl := &player{s: s, p: p, rnd: rnd, wires: map[string]*wire{}, open: map[string]bool{}, replace: s.words()}
	defer pl.close()
	got := slices.Clone(s.c.Steps)
	for i := range got {
		st := &got[i]
		if st.Op == Log || st.Op == Stat {
			pl.hangUp()
		}
		if err := pl.step(st); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", s.c.File, st.Line, err)
		}
		pl.follow(st)
	}
	pl.hangUp()
	sortLogs(got)
	return got, pl.leftover()
}

// sortLogs puts log lines that follow each other in order if clients had several connections
// or streams of HTTP/2: each is logged by whoever serves it, after its client has the answer.
func sortLogs(steps []Step) {
	first := slices.IndexFunc(steps, func(st Step) bool { return client(st.Who) })
	if first < 0 || !slices.ContainsFunc(steps, func(st Step) bool {
		return client(st.Who) && (st.HTTP2 || st.Who != steps[first].Who)
	}) {
		return
	}
	var lines []string
	for i := range steps {
		if steps[i].Op != Log {
			lines = nil
			continue
		}
		lines = append(lines, steps[i].Arg)
		slices.Sort(lines)
		for j, line := range lines {
			steps[i-len(lines)+1+j].Arg = line
		}
	}
}

// words are what normalised lines say in place of this run's addresses.
func (s *site) words() *strings.Replacer {
	ip, _, _ := net.SplitHostPort(s.address)
	port := "x-forwarded-port: "
	var pairs []string
	if s.pki != nil {
		pairs = append(pairs, s.pki.words...)
	}
	pairs = append(pairs, s.address, "LISTENER", ip, "LISTENER-IP", port+s.port(), port+"PORT")
	for name, srv := range s.servers {
		for _, a := range srv.addresses() {
			pairs = append(pairs, a, strings.ToUpper(name))
		}
	}
	// Envoy calls a client on the loopback interface by an address of the machine.
	pairs = append(pairs, "127.0.0.1", "CLIENT")
	if all, err := net.InterfaceAddrs(); err == nil {
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
				pairs = append(pairs, n.IP.String(), "CLIENT")
			}
		}
	}
	return strings.NewReplacer(pairs...)
}

func (pl *player) step(st *Step) error {
	switch st.Op {
	case Admin:
		return pl.p.post(st.Arg)
	case Wait:
		d, err := time.ParseDuration(st.Arg)
		if err == nil {
			<-time.After(d)
		}
		return err
	case Log:
		st.Arg = pl.logLine()
		return nil
	case Stat:
		name, want, _ := strings.Cut(st.Arg, " ")
		st.Arg = name + " " + pl.statValue(pl.s.vars(name), want)
		return nil
	}
	w, err := pl.wire(st.Who)
	if err != nil {
		if st.reads() && !client(st.Who) {
			st.Lines = []string{nothing}
			return nil
		}
		return fmt.Errorf("%s: %w", st.Who, err)
	}
	data := bytes.ReplaceAll(st.Data, []byte("$port"), []byte(pl.s.port()))
	if up := pl.s.servers["up"]; bytes.Contains(data, []byte("$host")) && len(up.hosts) > 0 {
		data = bytes.ReplaceAll(data, []byte("$host"), []byte(up.addresses()[0]))
	}
	if st.Op == Send && client(st.Who) {
		pl.settle(st.Who)
	}
	switch {
	case st.Op == Send && w.two != nil:
		return w.two.send(st, data)
	case st.Op == Send:
		w.send(data, pl.rnd)
	case st.Op == Act && st.Stream > 0:
		return w.two.act(st.Stream, st.Arg)
	case st.Op == Act:
		return w.act(st.Arg)
	case w.two != nil:
		st.Lines = normalise(w.two.seen(st), pl.replace)
	default:
		st.Lines = normalise(w.read(st), pl.replace)
	}
	return nil
}

// settle is called before a client sends. If it was another one that has sent last, its
// connection to upstream may be given back a moment after it has its answer: the script says
// which connections are used again.
func (pl *player) settle(who string) {
	if pl.sender == who {
		return
	}
	pl.sender = who
	for begin := time.Now(); ; <-time.After(time.Millisecond) {
		n, took := pl.active(), time.Since(begin)
		if n == 0 || n <= len(pl.open) && took > settling || took > patience/5 {
			return
		}
	}
}

// settling is how long a client waits for the end of what may go on anyway, since others
// wait for answers.
const settling = 30 * time.Millisecond

// follow notes which clients wait for an answer.
func (pl *player) follow(st *Step) {
	switch {
	case !client(st.Who):
	case st.Op == Send:
		pl.open[st.name()] = true
	case st.Op == ReadEnd || st.Op == Act || st.Op == Read && !slices.ContainsFunc(st.Lines, switches):
		delete(pl.open, st.name())
	}
}

// switches reports whether a line is the head of a response that begins something else.
func switches(line string) bool { return strings.HasPrefix(line, "HTTP/1.1 101 ") }

// active is how many requests upstreams have under way that are connected to.
func (pl *player) active() int {
	sum, seen := 0, map[string]bool{}
	for who := range pl.wires {
		name := "other"
		switch who[0] {
		case 'c':
			continue
		case 'u':
			name = "up"
		}
		if !seen[name] {
			seen[name] = true
			sum += pl.p.active(pl.s.cluster(name))
		}
	}
	return sum
}

// http2 reports whether a connection of the case speaks HTTP/2.
func (pl *player) http2(who string) bool {
	return slices.ContainsFunc(pl.s.c.Steps, func(st Step) bool { return st.Who == who && st.HTTP2 })
}

// wire returns a connection by name, a new one on the first use of the name.
func (pl *player) wire(who string) (*wire, error) {
	if w := pl.wires[who]; w != nil {
		return w, nil
	}
	var c net.Conn
	var err error
	switch who[0] {
	case 'c':
		c, err = pl.s.dial()
	case 'u':
		c, err = pl.s.servers["up"].next(patience)
	default:
		c, err = pl.s.servers["other"].next(patience)
	}
	if err != nil {
		return nil, err
	}
	if c, err = pl.s.secure(who, c, pl.s.set); err != nil {
		return nil, err
	}
	w := &wire{c: c, r: bufio.NewReader(c), who: who}
	if pl.http2(who) {
		rnd := pl.rnd
		if rnd != nil {
			rnd = rand.New(rand.NewPCG(rnd.Uint64(), 0)) // two goroutines write
		}
		w.two = newWire2(c, client(who), func(b []byte) { w.send(b, rnd) })
	}
	pl.wires[who] = w
	return w, nil
}

// send writes in one piece or, to show that this changes nothing, in many. What the
// peer does not take any more is not an error: the script tells what it sees.
func (w *wire) send(b []byte, rnd *rand.Rand) {
	w.c.SetWriteDeadline(time.Now().Add(patience))
	if rnd == nil {
		_, _ = w.c.Write(b)
		return
	}
	most := 3
	if len(b) > 4<<10 {
		most = 2000
	}
	for len(b) > 0 {
		n := min(1+rnd.IntN(most), len(b))
		if _, err := w.c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

func (w *wire) act(what string) error {
	if half, ok := w.c.(interface{ CloseWrite() error }); ok && what == "shut" {
		return half.CloseWrite()
	}
	if t, ok := w.c.(*net.TCPConn); ok && what == "reset" {
		if err := t.SetLinger(0); err != nil {
			return err
		}
	}
	return w.c.Close()
}

// read reads what a step asks for.
func (w *wire) read(st *Step) []string {
	w.c.SetReadDeadline(time.Now().Add(patience))
	switch st.Op {
	case Read:
		return readMessage(w.r)
	case ReadHead:
		h, err := readHead(w.r)
		if err != nil {
			if h.first == "" {
				return []string{ending(err, false)}
			}
			return append(h.lines(), ending(err, true))
		}
		return h.lines()
	case ReadTLS:
		return []string{w.tlsState()}
	case ReadN:
		b := make([]byte, st.N)
		n, err := io.ReadFull(w.r, b)
		out := bodyLines(b[:n])
		if err != nil {
			out = append(out, ending(err, n > 0))
		}
		return out
	default:
		return drain(w.r)
	}
}

// hangUp closes the clients, so that what is logged at their end is logged.
func (pl *player) hangUp() {
	for who, w := range pl.wires {
		if client(who) {
			w.c.Close()
		}
	}
	clear(pl.open)
}

func (pl *player) close() {
	for _, w := range pl.wires {
		w.c.Close()
	}
}

// leftover finds a connection of the proxy that the script does not know of.
func (pl *player) leftover() error {
	for name, srv := range pl.s.servers {
		c, err := srv.next(0)
		if err != nil {
			continue
		}
		c.SetReadDeadline(time.Now().Add(patience / 10))
		b := make([]byte, 4096)
		n, _ := c.Read(b) // what there is to show
		c.Close()
		return fmt.Errorf("%s:%d: a connection to $%s that the script does not know of: %q", pl.s.c.File, pl.s.c.Line, name, b[:n])
	}
	return nil
}

// logLine waits for the next line of the access log.
func (pl *player) logLine() string {
	for end := time.Now().Add(patience); ; pause() {
		text, err := os.ReadFile(pl.s.logFile)
		lines := strings.SplitAfter(string(text), "\n")
		if err == nil && len(lines) > pl.logged && strings.HasSuffix(lines[pl.logged], "\n") {
			line := strings.TrimSuffix(lines[pl.logged], "\n")
			pl.logged++
			return normalise([]string{sortFlags(line)}, pl.replace)[0]
		}
		if time.Now().After(end) {
			return nothing
		}
	}
}

var several = regexp.MustCompile(`^[A-Z]+(,[A-Z]+)+$`)

// sortFlags puts several response flags in alphabetical order: in which order a proxy
// has come to them says nothing.
func sortFlags(line string) string {
	words := strings.Split(line, " ")
	for i, w := range words {
		if several.MatchString(w) {
			flags := strings.Split(w, ",")
			slices.Sort(flags)
			words[i] = strings.Join(flags, ",")
		}
	}
	return strings.Join(words, " ")
}

// statPatience is how long a statistic may take: where another proxy is known to differ, it
// is waited for in vain.
func (pl *player) statPatience() time.Duration {
	if pl.s.c.Differs != "" {
		return patience / 5
	}
	return patience
}

// statValue waits for a statistic to have the value, and returns the last one.
func (pl *player) statValue(name, want string) string {
	for end := time.Now().Add(pl.statPatience()); ; pause() {
		got := pl.p.stat(name)
		if got == "" {
			got = "0"
		}
		if got == want || time.Now().After(end) {
			return got
		}
	}
}

// pause is the time between two looks at a file or a statistic.
func pause() { <-time.After(5 * time.Millisecond) }
