package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestDNSFlags(t *testing.T) {
	o := defaultOptions("mecha")
	for _, f := range []struct {
		set func(*Options, string) error
		v   string
		bad string
	}{
		{setDNSListen, "127.0.0.1:15053,[::1]:15053", "127.0.0.1"},
		{setDNSListen, "127.0.0.2:53", "127.0.0.1:0"},
		{setDNSUpstream, "10.0.0.10,[fd00::a]:5353", "dns.example"},
		{addDNSName, "Shop.mesh=10.9.0.1,fd09::1", "shop.mesh"},
	} {
		if err := f.set(&o, f.v); err != nil {
			t.Errorf("%q: %v", f.v, err)
		}
		if err := f.set(new(Options), f.bad); err == nil {
			t.Errorf("%q was taken", f.bad)
		}
	}
	if got := fmt.Sprint(o.DNS); got != "{[127.0.0.1:15053 [::1]:15053 127.0.0.2:53] [10.0.0.10:53 [fd00::a]:5353] map[shop.mesh:[10.9.0.1 fd09::1]] }" {
		t.Error(got)
	}
	if _, err := (dnsOptions{File: "x"}).check(); err == nil {
		t.Error("names without a listener were taken")
	}
	if _, err := (dnsOptions{Listen: o.DNS.Listen, File: filepath.Join(t.TempDir(), "none")}).check(); err == nil {
		t.Error("a file that is not there was taken")
	}
	if names, err := (dnsOptions{}).check(); names != nil || err != nil {
		t.Error(names, err)
	}
}

// dnsProgramEnv makes this test binary the program of TestRunDNS.
const dnsProgramEnv = "MECHA_TEST_DNS_PROGRAM"

// TestRunDNS runs a program whose DNS queries are captured, in a network namespace, with
// a resolver that the program itself is.
func TestRunDNS(t *testing.T) {
	switch os.Getenv(dnsProgramEnv) {
	case "resolver":
		dnsProgram(t)
		return
	case "nobody":
		dnsUnanswered(t)
		return
	}
	bin := publicDir(t)
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	podsPossible(t, bin, 0)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for role, upstream := range map[string]string{"resolver": "127.0.0.1:5301", "nobody": "192.0.2.8"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), demoEnds)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(bin, "mecha"), "run", "--isolated", "--dns-name", "shop.mesh=10.9.0.1",
				"--sidecar-arg", "--dns-upstream="+upstream, "--env", dnsProgramEnv+"="+role, "--", self, "-test.run=^TestRunDNS$", "-test.v")
			cmd.Dir = "/"
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestRunDNS") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// captured asks a server that does not exist.
func captured(t *testing.T, network, server, name string, kind uint16) string {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 10 * time.Second}
	a, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, kind), net.JoinHostPort(server, "53"))
	if err != nil {
		return err.Error()
	}
	out := dns.RcodeToString[a.Rcode]
	for _, rr := range a.Answer {
		out += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return out
}

func dnsProgram(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		asked = append(asked, w.RemoteAddr().Network())
		mu.Unlock()
		a := new(dns.Msg).SetReply(q)
		a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(10, 1, 2, 3)}}
		_ = w.WriteMsg(a)
	})
	var servers []*dns.Server
	for _, network := range []string{"udp", "tcp"} {
		up := make(chan struct{})
		s := &dns.Server{Addr: "127.0.0.1:5301", Net: network, Handler: h, NotifyStartedFunc: func() { close(up) }}
		servers = append(servers, s)
		go func() { _ = s.ListenAndServe() }()
		<-up
	}
	for _, server := range []string{"192.0.2.9", "2001:db8::9", "127.0.0.1"} {
		for _, network := range []string{"udp", "tcp"} {
			for _, tc := range [][2]string{{"shop.mesh.", "NOERROR 10.9.0.1"}, {"www.outside.", "NOERROR 10.1.2.3"}} {
				if got := captured(t, network, server, tc[0], dns.TypeA); got != tc[1] {
					t.Errorf("%s over %s, %s: %s", tc[0], network, server, got)
				}
			}
		}
	}
	if got := captured(t, "udp", "192.0.2.9", "shop.mesh.", dns.TypeAAAA); got != "NOERROR" {
		t.Error(got)
	}
	mu.Lock()
	if want := []string{"udp", "tcp", "udp", "tcp", "udp", "tcp"}; !reflect.DeepEqual(asked, want) {
		t.Errorf("the resolver was asked over %v", asked)
	}
	mu.Unlock()
	for _, s := range servers {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := captured(t, network, "192.0.2.9", "www.outside.", dns.TypeA); got != "SERVFAIL" {
			t.Errorf("after the resolver has gone: %s", got)
		}
	}
	dnsDidNotLoop(t)
}

// dnsUnanswered has a resolver that nobody is; what the sidecar sends there goes through
// the same rules.
func dnsUnanswered(t *testing.T) {
	if got := captured(t, "udp", "192.0.2.9", "www.outside.", dns.TypeA); got != "SERVFAIL" {
		t.Error(got)
	}
	dnsDidNotLoop(t)
}

func dnsDidNotLoop(t *testing.T) {
	t.Helper()
	r, err := http.Get("http://127.0.0.1:15000/stats?filter=%5Edns")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(b), "dns.loops: 0\n") || strings.Contains(string(b), "dns.answers_failed: 0\n") {
		t.Errorf("%v\n%s", err, b)
	}
}
