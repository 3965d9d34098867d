package dnsproxy

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const patience = 20 * time.Second

// resolver is a DNS server of records, over UDP and TCP.
type resolver struct {
	addr  netip.AddrPort
	udp   *dns.Server
	tcp   *dns.Server
	asked atomic.Int32
}

func newResolver(t *testing.T, tcp bool, handle func(w dns.ResponseWriter, q, a *dns.Msg)) *resolver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{addr: netip.MustParseAddrPort(l.Addr().String())}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r.asked.Add(1)
		a := new(dns.Msg)
		a.SetReply(q)
		handle(w, q, a)
	})
	r.udp = &dns.Server{PacketConn: pc, Handler: h}
	started := make(chan struct{})
	r.udp.NotifyStartedFunc = func() { close(started) }
	go func() { _ = r.udp.ActivateAndServe() }()
	<-started
	if tcp {
		r.tcp = &dns.Server{Listener: l, Handler: h}
		up := make(chan struct{})
		r.tcp.NotifyStartedFunc = func() { close(up) }
		go func() { _ = r.tcp.ActivateAndServe() }()
		<-up
	} else {
		l.Close()
	}
	t.Cleanup(r.kill)
	return r
}

func (r *resolver) kill() {
	_ = r.udp.Shutdown()
	if r.tcp != nil {
		_ = r.tcp.Shutdown()
	}
}

// zone answers as an ordinary server of names.
func zone(w dns.ResponseWriter, q, a *dns.Msg) {
	name := strings.ToLower(q.Question[0].Name)
	add := func(text string) {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		a.Answer = append(a.Answer, rr)
	}
	soa, _ := dns.NewRR("outside. 60 IN SOA ns.outside. root.outside. 1 2 3 4 20")
	switch {
	case name == "big.outside.":
		for i := range 100 {
			add(fmt.Sprintf("big.outside. 60 IN A 10.0.0.%d", i))
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			size := 512
			if o := q.IsEdns0(); o != nil {
				size = int(o.UDPSize())
			}
			a.Truncate(size)
		}
	case name == "www.outside." && q.Question[0].Qtype == dns.TypeA:
		add("www.outside. 60 IN A 10.1.2.3")
	case name == "www.outside.":
		a.Ns = []dns.RR{soa}
	case name == "broken.outside.":
		a.Rcode = dns.RcodeServerFailure
	default:
		a.Rcode, a.Ns = dns.RcodeNameError, []dns.RR{soa}
	}
	_ = w.WriteMsg(a)
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	if o.Listen == nil {
		o.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mesh(t *testing.T) *Names {
	t.Helper()
	n, err := NewNames(map[string][]netip.Addr{
		"shop.mesh":    {netip.MustParseAddr("10.9.0.1")},
		"both.mesh":    {netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")},
		"*.wild.mesh.": {netip.MustParseAddr("10.9.0.3")},
		"db":           {netip.MustParseAddr("10.9.0.4")},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func ask(t *testing.T, s *Server, network, name string, kind uint16, size uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, kind)
	if size > 0 {
		q.SetEdns0(size, false)
	}
	c := dns.Client{Net: network, Timeout: patience, UDPSize: size}
	a, _, err := c.Exchange(q, s.Addrs()[0].String())
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	a.Compress = true // as it came
	return a
}

// show is an answer in short: its code, the truncation, the data of its records.
func show(a *dns.Msg) string {
	out := dns.RcodeToString[a.Rcode]
	if a.Truncated {
		out += " TC"
	}
	for _, rr := range a.Answer {
		out += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return out
}

func TestAnswers(t *testing.T) {
	r := newResolver(t, true, zone)
	s := start(t, Options{Upstream: []netip.AddrPort{r.addr}, Names: mesh(t), Search: []string{"ns.svc.outside", "outside"}})
	for _, tc := range []struct {
		name string
		kind uint16
		want string
	}{
		{"shop.mesh.", dns.TypeA, "NOERROR 10.9.0.1"},
		{"SHOP.Mesh.", dns.TypeA, "NOERROR 10.9.0.1"},
		{"shop.mesh.", dns.TypeAAAA, "NOERROR"}, // it exists: NXDOMAIN would be remembered for A, too
		{"shop.mesh.", dns.TypeHTTPS, "NOERROR"},
		{"both.mesh.", dns.TypeAAAA, "NOERROR fd09::2"},
		{"a.b.wild.mesh.", dns.TypeA, "NOERROR 10.9.0.3"},
		{"wild.mesh.", dns.TypeA, "NXDOMAIN"},
		{"db.", dns.TypeA, "NOERROR 10.9.0.4"},
		{"shop.mesh.ns.svc.outside.", dns.TypeA, "NOERROR shop.mesh. 10.9.0.1"},
		{"shop.mesh.outside.", dns.TypeAAAA, "NOERROR shop.mesh."},
		{"db.outside.", dns.TypeA, "NXDOMAIN"}, // may well be another
		{"www.outside.", dns.TypeA, "NOERROR 10.1.2.3"},
		{"www.outside.", dns.TypeAAAA, "NOERROR"},
		{"nobody.outside.", dns.TypeA, "NXDOMAIN"},
		{"broken.outside.", dns.TypeA, "SERVFAIL"},
		{"www.outside.", dns.TypeAXFR, "REFUSED"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := show(ask(t, s, network, tc.name, tc.kind, 0)); got != tc.want {
				t.Errorf("%s %s %s: %s, want %s", network, tc.name, dns.TypeToString[tc.kind], got, tc.want)
			}
		}
	}
}

func TestTruncatedAnswersAreAskedForAgainOverTCP(t *testing.T) {
	r := newResolver(t, true, zone)
	s := start(t, Options{Upstream: []netip.AddrPort{r.addr}})
	for _, size := range []uint16{0, 1232} {
		a := ask(t, s, "udp", "big.outside.", dns.TypeA, size)
		if limit := max(int(size), plainSize); !a.Truncated || a.Len() > limit || (a.IsEdns0() != nil) != (size > 0) {
			t.Errorf("EDNS %d: truncated %v, %d bytes, %v", size, a.Truncated, a.Len(), a.IsEdns0())
		}
	}
	if a := ask(t, s, "tcp", "big.outside.", dns.TypeA, 0); a.Truncated || len(a.Answer) != 100 {
		t.Errorf("TCP: truncated %v, %d records", a.Truncated, len(a.Answer))
	}
	// The whole answer is known now, and is cut to what each client takes.
	n := r.asked.Load()
	if a := ask(t, s, "udp", "big.outside.", dns.TypeA, 0); !a.Truncated || a.Len() > plainSize {
		t.Errorf("cached: truncated %v, %d bytes", a.Truncated, a.Len())
	}
	if a := ask(t, s, "udp", "big.outside.", dns.TypeA, 4096); a.Truncated || len(a.Answer) != 100 {
		t.Errorf("cached, EDNS 4096: truncated %v, %d records", a.Truncated, len(a.Answer))
	}
	if r.asked.Load() != n {
		t.Error("the resolver was asked again")
	}
}

func TestResolverWithoutTCP(t *testing.T) {
	r := newResolver(t, false, zone)
	s := start(t, Options{Upstream: []netip.AddrPort{r.addr}})
	if got := show(ask(t, s, "tcp", "www.outside.", dns.TypeA, 0)); got != "NOERROR 10.1.2.3" {
		t.Errorf("small answer: %s", got)
	}
	if got := show(ask(t, s, "tcp", "big.outside.", dns.TypeA, 0)); got != "SERVFAIL" {
		t.Errorf("one that needs TCP: %s", got)
	}
}

func TestTheNextResolverIsAsked(t *testing.T) {
	dead := newResolver(t, true, zone)
	dead.kill()
	sick := newResolver(t, true, func(w dns.ResponseWriter, _, a *dns.Msg) { a.Rcode = dns.RcodeRefused; _ = w.WriteMsg(a) })
	silent := newResolver(t, true, func(dns.ResponseWriter, *dns.Msg, *dns.Msg) {})
	good := newResolver(t, true, zone)
	s := start(t, Options{Upstream: []netip.AddrPort{dead.addr, sick.addr, silent.addr, good.addr}})
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{"www.outside.", "nobody.outside."} {
			want := map[string]string{"www.outside.": "NOERROR 10.1.2.3", "nobody.outside.": "NXDOMAIN"}[name]
			if got := show(ask(t, s, network, name, dns.TypeA, 0)); got != want {
				t.Errorf("%s %s: %s", network, name, got)
			}
		}
	}
	// One that failed is not waited for again by each query.
	if n := silent.asked.Load(); n != 1 {
		t.Errorf("the silent one was asked %d times", n)
	}
}

func TestNoResolverAnswers(t *testing.T) {
	silent := newResolver(t, true, func(dns.ResponseWriter, *dns.Msg, *dns.Msg) {})
	good := newResolver(t, true, zone)
	for name, o := range map[string]Options{
		"none":   {},
		"silent": {Upstream: []netip.AddrPort{silent.addr}, Timeout: 200 * time.Millisecond},
		"killed": {Upstream: []netip.AddrPort{good.addr}},
	} {
		s := start(t, o)
		if name == "killed" {
			if got := show(ask(t, s, "udp", "www.outside.", dns.TypeA, 0)); got != "NOERROR 10.1.2.3" {
				t.Error(got)
			}
			good.kill()
		}
		began := time.Now()
		for _, network := range []string{"udp", "tcp"} {
			if got := show(ask(t, s, network, "other.outside.", dns.TypeA, 0)); got != "SERVFAIL" {
				t.Errorf("%s: %s", name, got)
			}
		}
		if d := time.Since(began); d > 2*defaultTimeout+patience/2 {
			t.Errorf("%s: took %v", name, d)
		}
		if s.stats.Failures.Value() != 2 {
			t.Errorf("%s: %d failures counted", name, s.stats.Failures.Value())
		}
	}
}

// Whoever guesses the port must guess the id and the question, too, and does not end the
// wait for the true answer.
func TestForgedAnswersAreIgnored(t *testing.T) {
	r := newResolver(t, true, func(w dns.ResponseWriter, q, a *dns.Msg) {
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			forged := a.Copy()
			rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 6.6.6.6")
			forged.Answer = []dns.RR{rr}
			forged.Id++
			_ = w.WriteMsg(forged)
			forged.Id--
			forged.Question = []dns.Question{{Name: "other.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
			_ = w.WriteMsg(forged)
			_, _ = w.Write([]byte("nonsense"))
		}
		zone(w, q, a)
	})
	s := start(t, Options{Upstream: []netip.AddrPort{r.addr}})
	if got := show(ask(t, s, "udp", "www.outside.", dns.TypeA, 0)); got != "NOERROR 10.1.2.3" {
		t.Error(got)
	}
	if n := s.stats.Foreign.Value(); n != 3 {
		t.Errorf("%d foreign messages counted", n)
	}
}

// Where the rules do not know the sidecar, its own query comes back. It is refused, not
// asked once more.
func TestALoopEnds(t *testing.T) {
	s := start(t, Options{})
	q := new(dns.Msg).SetQuestion("www.outside.", dns.TypeA)
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddrPort("127.0.0.1:4242")
	s.own.Store(from, true)
	if _, a := s.known(b, from); a == nil || a.Rcode != dns.RcodeRefused || s.stats.Loops.Value() != 1 {
		t.Errorf("%v, %d loops", a, s.stats.Loops.Value())
	}
	if _, err := Listen(Options{Listen: s.Addrs(), Upstream: s.Addrs()}); err == nil || !strings.Contains(err.Error(), "is the listener itself") {
		t.Errorf("error %v", err)
	}
}

func TestLookupsAreBounded(t *testing.T) {
	release := make(chan struct{})
	waiting := make(chan struct{}, 8)
	r := newResolver(t, true, func(w dns.ResponseWriter, q, a *dns.Msg) {
		waiting <- struct{}{}
		<-release
		zone(w, q, a)
	})
	s := start(t, Options{Upstream: []netip.AddrPort{r.addr}, MaxLookups: 1, Names: mesh(t), Timeout: patience})
	answered := make(chan string, 1)
	go func() { answered <- show(ask(t, s, "udp", "www.outside.", dns.TypeA, 0)) }()
	<-waiting
	if got := show(ask(t, s, "udp", "other.outside.", dns.TypeA, 0)); got != "SERVFAIL" || s.stats.Overflow.Value() != 1 {
		t.Errorf("%s, %d counted", got, s.stats.Overflow.Value())
	}
	if got := show(ask(t, s, "udp", "shop.mesh.", dns.TypeA, 0)); got != "NOERROR 10.9.0.1" {
		t.Errorf("a name of the mesh waits for resolvers: %s", got)
	}
	close(release)
	if got := <-answered; got != "NOERROR 10.1.2.3" {
		t.Error(got)
	}
}

func TestMalformedQueries(t *testing.T) {
	s := start(t, Options{})
	from := netip.MustParseAddrPort("127.0.0.1:4242")
	q := new(dns.Msg).SetQuestion("a.", dns.TypeA)
	two := q.Copy()
	two.Question = append(two.Question, two.Question[0])
	update := q.Copy()
	update.Opcode = dns.OpcodeUpdate
	version := q.Copy().SetEdns0(1232, false)
	version.IsEdns0().SetVersion(1)
	response := q.Copy()
	response.Response = true
	for name, tc := range map[string]struct {
		msg  []byte
		want int // -1: no answer
	}{
		"empty":    {nil, -1},
		"short":    {[]byte{1, 2, 3}, -1},
		"garbage":  {[]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff"), dns.RcodeFormatError},
		"answer":   {packed(t, response), -1},
		"two":      {packed(t, two), dns.RcodeFormatError},
		"update":   {packed(t, update), dns.RcodeNotImplemented},
		"EDNS 1":   {packed(t, version), dns.RcodeBadVers},
		"nothing?": {[]byte("\x12\x34\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), dns.RcodeFormatError},
	} {
		out := pack2(s.known(tc.msg, from))
		if tc.want < 0 {
			if out != nil {
				t.Errorf("%s: answered", name)
			}
			continue
		}
		a := new(dns.Msg)
		if err := a.Unpack(out); err != nil || a.Rcode != tc.want || !a.Response {
			t.Errorf("%s: %v %v", name, a, err)
		}
	}
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pack2(q, a *dns.Msg) []byte { return pack(q, a, true) }

func TestNamesOfAFileAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewNames(nil, path); err == nil {
		t.Error("a file that is not there was taken")
	}
	write("10.0.0.1 a.mesh A2.mesh. # first\n\nfd00::1 a.mesh\n")
	n, err := NewNames(map[string][]netip.Addr{"fixed.mesh": {netip.MustParseAddr("10.0.0.9")}}, path)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Names: n})
	if a, ok := n.Lookup("a.mesh"); !ok || len(a) != 2 {
		t.Errorf("%v %v", a, ok)
	}
	write("10.0.0.2 b.mesh longer than before\n")
	n.looked = time.Time{}
	if _, ok := n.Lookup("b.mesh"); !ok {
		t.Error("the new file was not read")
	}
	if _, ok := n.Lookup("a.mesh"); ok {
		t.Error("a name that has gone is still answered")
	}
	write("not an address\n")
	n.looked = time.Time{}
	for _, name := range []string{"b.mesh", "fixed.mesh"} {
		if _, ok := n.Lookup(name); !ok {
			t.Errorf("%s was lost with a file that is wrong", name)
		}
	}
	if s.stats.NamesFailed.Value() != 1 || s.stats.Names.Value() != 5 {
		t.Errorf("%d failed, %d names", s.stats.NamesFailed.Value(), s.stats.Names.Value())
	}
	for _, bad := range []string{"x", "x=", "x=1.2.3", "a b=1.2.3.4", "=1.2.3.4", "*=1.2.3.4", "a.*.b=1.2.3.4", "a..b=1.2.3.4"} {
		if name, addrs, err := ParseName(bad); err == nil {
			t.Errorf("%q was taken as %q %v", bad, name, addrs)
		}
	}
}

func TestResolvConf(t *testing.T) {
	servers, search := parseResolvConf([]byte("# x\nnameserver 10.0.0.10\nnameserver fd00::a\nnameserver nonsense\nsearch A.b. c\noptions ndots:5\n"))
	if fmt.Sprint(servers, search) != "[10.0.0.10:53 [fd00::a]:53] [a.b c]" {
		t.Error(servers, search)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	silent := newResolver(t, true, func(dns.ResponseWriter, *dns.Msg, *dns.Msg) {})
	before := runtime.NumGoroutine()
	s, err := Listen(Options{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstream: []netip.AddrPort{silent.addr}, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		c, err := net.Dial(network, s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b := packed(t, new(dns.Msg).SetQuestion("www.outside.", dns.TypeA))
		if network == "tcp" {
			err = writeMessage(c, b)
		} else {
			_, err = c.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(patience); silent.asked.Load() < 2 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	began := time.Now()
	if err := s.Close(); err != nil || time.Since(began) > patience {
		t.Errorf("closed after %v: %v", time.Since(began), err)
	}
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before+2; { // those of the resolver's connection
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}
