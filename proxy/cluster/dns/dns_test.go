package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// server is a DNS server on 127.0.0.1, over UDP and TCP.
type server struct {
	addr string
	mu   sync.Mutex
	zone map[string][]dnsmessage.Resource // by name and type, such as "web.test. A"
	code map[string]dnsmessage.RCode      // by name
	deaf bool                             // answers nothing over UDP
	odd  func([]byte) [][]byte            // what is sent over UDP instead of the answer
	cut  bool                             // answers over UDP are truncated
	seen []string                         // name, type and transport
}

func newServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String(), zone: map[string][]dnsmessage.Resource{}, code: map[string]dnsmessage.RCode{}}
	var wg sync.WaitGroup
	wg.Go(func() { s.serveUDP(pc) })
	wg.Go(func() { s.serveTCP(l) })
	t.Cleanup(func() {
		_, _ = l.Close(), pc.Close()
		wg.Wait()
	})
	return s
}

func (s *server) serveUDP(pc net.PacketConn) {
	b := make([]byte, 4096)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		m := s.answer(b[:n], "udp")
		s.mu.Lock()
		out := [][]byte{m}
		if s.odd != nil {
			out = s.odd(m)
		}
		if s.deaf {
			out = nil
		}
		s.mu.Unlock()
		for _, m := range out {
			_, _ = pc.WriteTo(m, from)
		}
	}
}

func (s *server) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err == nil {
			m := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, m); err == nil {
				m = s.answer(m, "tcp")
				_, _ = c.Write(binary.BigEndian.AppendUint16(nil, uint16(len(m))))
				_, _ = c.Write(m)
			}
		}
		_ = c.Close()
	}
}

func (s *server) answer(query []byte, transport string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	name, typ := strings.ToLower(q.Name.String()), strings.TrimPrefix(q.Type.String(), "Type")
	s.seen = append(s.seen, name+" "+typ+" "+transport)
	m.Response, m.Additionals, m.Answers = true, nil, s.zone[name+" "+typ]
	m.RCode = s.code[name]
	if len(m.Answers) == 0 && m.RCode == dnsmessage.RCodeSuccess && s.unknown(name) {
		m.RCode = dnsmessage.RCodeNameError
	}
	if s.cut && transport == "udp" {
		m.Truncated, m.Answers = true, nil
	}
	out, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return out
}

func (s *server) unknown(name string) bool {
	for k := range s.zone {
		if strings.HasPrefix(k, name+" ") {
			return false
		}
	}
	return true
}

func head(name string, ttl uint32) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}
}

func (s *server) a(name string, ttl uint32, ips ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ip := range ips {
		r := dnsmessage.Resource{Header: head(name, ttl)}
		if a := netip.MustParseAddr(ip); a.Is4() {
			r.Body = &dnsmessage.AResource{A: a.As4()}
			s.zone[name+" A"] = append(s.zone[name+" A"], r)
		} else {
			r.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
			s.zone[name+" AAAA"] = append(s.zone[name+" AAAA"], r)
		}
	}
}

// alias makes name an alias of what is in the zone already.
func (s *server) alias(name string, ttl uint32, of string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range []string{" A", " AAAA"} {
		r := dnsmessage.Resource{Header: head(name, ttl), Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(of)}}
		s.zone[name+t] = append([]dnsmessage.Resource{r}, s.zone[of+t]...)
	}
}

// set changes what the server does.
func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// resolver returns a resolver that reads files of that text.
func resolver(t *testing.T, resolvConf, hostsFile string) *Resolver {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"resolv.conf": resolvConf, "hosts": hostsFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return FromFiles(filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts"))
}

func show(a Answer) string { return fmt.Sprint(a.V4, a.V6, a.TTL) }

func TestLookup(t *testing.T) {
	s := newServer(t)
	s.a("web.test.", 30, "10.0.0.1", "10.0.0.2", "fd00::1")
	s.a("four.test.", 7, "10.0.0.4")
	s.alias("www.test.", 5, "web.test.")
	s.alias("nowhere.test.", 5, "gone.test.")
	s.a("web.corp.example.", 60, "10.9.0.1")
	s.a("db.prod.corp.example.", 60, "10.9.0.2")
	s.a("a.b.corp.example.", 60, "10.9.0.3")
	s.a("dull.test.", 0, "10.0.0.9")
	s.set(func() { s.code["broken.test."] = dnsmessage.RCodeServerFailure })
	r := resolver(t, "# test\nnameserver "+s.addr+"\nsearch prod.corp.example corp.example ; two\noptions ndots:2 timeout:1 attempts:1\n",
		"127.0.0.1 local-name Alias.Name # comment\n::1 local-name\nbad-line\nx y\n10.1.1.1 four-only\n")
	for _, tc := range []struct {
		name string
		want Want
		got  string
	}{
		{"web.test.", V4 | V6, "[10.0.0.1 10.0.0.2] [fd00::1] 30s"},
		{"web.test.", V4, "[10.0.0.1 10.0.0.2] [] 30s"},
		{"web.test.", V6, "[] [fd00::1] 30s"},
		{"four.test.", V4 | V6, "[10.0.0.4] [] 7s"},
		{"four.test.", V6, "[] [] 0s"},
		{"www.test.", V4, "[10.0.0.1 10.0.0.2] [] 5s"},
		{"WWW.Test.", V4, "[10.0.0.1 10.0.0.2] [] 5s"},
		{"nowhere.test.", V4, "[] [] 0s"},
		{"none.test.", V4, "[] [] 0s"},
		{"web", V4, "[10.9.0.1] [] 1m0s"},
		{"db", V4, "[10.9.0.2] [] 1m0s"},
		{"a.b", V4, "[10.9.0.3] [] 1m0s"},
		{"web.test", V4, "[10.0.0.1 10.0.0.2] [] 30s"},
		{"dull.test.", V4, "[10.0.0.9] [] 1ns"},
		{"local-name", V4 | V6, "[127.0.0.1] [::1] 0s"},
		{"alias.name.", V4, "[127.0.0.1] [] 0s"},
		{"four-only", V6, "[] [] 0s"},
		{"localhost", V4 | V6, "[127.0.0.1] [::1] 0s"},
		{"10.2.3.4", V4 | V6, "[10.2.3.4] [] 0s"},
		{"fd00::9", V4, "[] [] 0s"},
		{"", V4, "[] [] 0s"},
		{strings.Repeat("x", 300) + ".", V4, "[] [] 0s"},
	} {
		a, err := r.Lookup(t.Context(), tc.name, tc.want)
		slices.SortFunc(a.V4, netip.Addr.Compare)
		if err != nil || show(a) != tc.got {
			t.Errorf("%q %d: %s, %v, want %s", tc.name, tc.want, show(a), err, tc.got)
		}
	}
	if _, err := r.Lookup(t.Context(), "broken.test.", V4); err == nil || !strings.Contains(err.Error(), "broken.test.") || !strings.Contains(err.Error(), "ServerFailure") {
		t.Errorf("the error is %v", err)
	}
}

// A name with enough dots is tried as it is first.
func TestSearchOrder(t *testing.T) {
	s := newServer(t)
	r := resolver(t, "nameserver "+s.addr+"\nsearch one.test two.test\noptions ndots:1\n", "")
	for name, want := range map[string]string{
		"plain":  "plain.one.test. A udp|plain.two.test. A udp|plain. A udp",
		"dot.ed": "dot.ed. A udp|dot.ed.one.test. A udp|dot.ed.two.test. A udp",
		"full.":  "full. A udp",
	} {
		s.set(func() { s.seen = nil })
		if _, err := r.Lookup(t.Context(), name, V4); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.asked(), "|"); got != want {
			t.Errorf("%s: asked for %s, want %s", name, got, want)
		}
	}
}

func TestTruncatedAnswersComeOverTCP(t *testing.T) {
	s := newServer(t)
	for i := range 200 {
		s.a("many.test.", 30, fmt.Sprintf("10.0.0.%d", i))
	}
	s.set(func() { s.cut = true })
	r := resolver(t, "nameserver "+s.addr, "")
	a, err := r.Lookup(t.Context(), "many.test.", V4)
	if err != nil || len(a.V4) != 200 {
		t.Errorf("%d addresses, %v, want 200", len(a.V4), err)
	}
	if got := strings.Join(s.asked(), "|"); got != "many.test. A udp|many.test. A tcp" {
		t.Errorf("asked for %s", got)
	}
	r = resolver(t, "nameserver "+s.addr+"\noptions use-vc", "")
	if a, err = r.Lookup(t.Context(), "many.test.", V4); err != nil || len(a.V4) != 200 || len(s.asked()) != 3 {
		t.Errorf("with use-vc: %d addresses, %v", len(a.V4), err)
	}
}

// Answers to other questions, and garbage, are waited past.
func TestForeignAnswersAreIgnored(t *testing.T) {
	s := newServer(t)
	s.a("web.test.", 30, "10.0.0.1")
	odd := func(m []byte) [][]byte {
		other := slices.Clone(m)
		other[1]++ // another ID
		var forged dnsmessage.Message
		if err := forged.Unpack(m); err != nil {
			panic(err)
		}
		forged.Questions[0].Name = dnsmessage.MustNewName("evil.test.")
		f, err := forged.Pack()
		if err != nil {
			panic(err)
		}
		return [][]byte{{}, m[:5], other, f, m}
	}
	s.set(func() { s.odd = odd })
	r := resolver(t, "nameserver "+s.addr, "")
	if a, err := r.Lookup(t.Context(), "web.test.", V4); err != nil || show(a) != "[10.0.0.1] [] 30s" {
		t.Errorf("%s, %v", show(a), err)
	}
}

// A server that does not answer, and one that is not there, cost time but no answer.
func TestTheNextServerIsAsked(t *testing.T) {
	deaf, good := newServer(t), newServer(t)
	deaf.set(func() { deaf.deaf = true })
	good.a("web.test.", 30, "10.0.0.1")
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.LocalAddr().String()
	_ = l.Close()
	r := resolver(t, "nameserver "+nobody+"\nnameserver "+deaf.addr+"\nnameserver "+good.addr+"\noptions timeout:1", "")
	if a, err := r.Lookup(t.Context(), "web.test.", V4); err != nil || show(a) != "[10.0.0.1] [] 30s" {
		t.Errorf("%s, %v", show(a), err)
	}
}

func TestLookupEndsWithItsContext(t *testing.T) {
	deaf := newServer(t)
	deaf.set(func() { deaf.deaf = true })
	r := resolver(t, "nameserver "+deaf.addr+"\nsearch a b c", "")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	done := make(chan error, 1)
	go func() {
		_, err := r.Lookup(ctx, "web.test", V4|V6)
		done <- err
	}()
	for len(deaf.asked()) < 2 { // both families were asked for
		runtime.Gosched()
	}
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("the error is %v, want %v", err, cause)
	}
}

// An AAAA that fails must not hide the A.
func TestOneFamilyFails(t *testing.T) {
	s := newServer(t)
	s.a("web.test.", 30, "10.0.0.1")
	odd := func(m []byte) [][]byte {
		var msg dnsmessage.Message
		if err := msg.Unpack(m); err != nil {
			panic(err)
		}
		if msg.Questions[0].Type == dnsmessage.TypeAAAA {
			msg.RCode = dnsmessage.RCodeNotImplemented
		}
		out, err := msg.Pack()
		if err != nil {
			panic(err)
		}
		return [][]byte{out}
	}
	s.set(func() { s.odd = odd })
	r := resolver(t, "nameserver "+s.addr, "")
	if a, err := r.Lookup(t.Context(), "web.test.", V4|V6); err != nil || show(a) != "[10.0.0.1] [] 30s" {
		t.Errorf("%s, %v", show(a), err)
	}
	if _, err := r.Lookup(t.Context(), "web.test.", V6); err == nil {
		t.Error("the failure is not told")
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	s := newServer(t)
	s.a("web.test.", 30, "10.0.0.1")
	r := resolver(t, "nameserver "+s.addr, "10.5.5.5 web.test")
	if a, err := r.Lookup(t.Context(), "web.test", V4); err != nil || show(a) != "[10.5.5.5] [] 0s" {
		t.Errorf("%s, %v", show(a), err)
	}
	if err := os.WriteFile(r.hosts.path, []byte("# empty, and longer than before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := r.Lookup(t.Context(), "web.test", V4); err != nil || show(a) != "[10.0.0.1] [] 30s" {
		t.Errorf("%s, %v", show(a), err)
	}
	// A file that has gone leaves what was known.
	if err := os.Remove(r.conf.path); err != nil {
		t.Fatal(err)
	}
	if a, err := r.Lookup(t.Context(), "web.test", V4); err != nil || show(a) != "[10.0.0.1] [] 30s" {
		t.Errorf("%s, %v", show(a), err)
	}
}

func TestParseConfig(t *testing.T) {
	c := parseConfig([]byte("nameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\nnameserver ::1\nnameserver 10.0.0.4\n" +
		"domain old.test\nsearch .a.test. b.test\noptions ndots:99 timeout:0 attempts:77 rotate edns0 ndots:x ndots:-1\n"))
	if got := fmt.Sprint(c.servers, c.search, c.ndots, c.timeout, c.attempts, c.rotate); got != "[10.0.0.1:53 [fe80::1%eth0]:53 [::1]:53] [a.test b.test] 15 1s 5 true" {
		t.Errorf("the configuration is %s", got)
	}
	first := map[string]bool{}
	for range 100 {
		first[c.order()[0]] = true
	}
	if len(first) != 3 {
		t.Errorf("rotation begins with %d of 3 servers", len(first))
	}
	if c = parseConfig(nil); fmt.Sprint(c.servers) != "[127.0.0.1:53]" || c.ndots != 1 || c.timeout != 5*time.Second {
		t.Errorf("the default is %+v", c)
	}
}

func FuzzParse(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("web.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{q}}
	m.Answers = []dnsmessage.Resource{
		{Header: head("web.test.", 9), Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("w.test.")}},
		{Header: head("w.test.", 9), Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}},
	}
	seed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, mine, err := parse(b, 7, q)
		if (!mine || err != nil) && len(a.V4)+len(a.V6) > 0 {
			t.Error("addresses beside a failure")
		}
		if len(a.V4) > maxRecords || len(a.V6) > 0 {
			t.Error("addresses that were not asked for")
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("nameserver 10.0.0.1\noptions ndots:2\nsearch x"), "web")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		c := parseConfig(b)
		if len(c.servers) == 0 || len(c.servers) > maxServers || c.attempts < 1 {
			t.Errorf("%+v", c)
		}
		c.candidates(name)
		parseHosts(b).lookup(name, V4|V6)
	})
}
