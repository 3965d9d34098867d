package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// with returns a resolver of an empty machine, changed by the options.
func with(t *testing.T, resolvConf string, o Options) *Resolver {
	t.Helper()
	r := resolver(t, resolvConf, "")
	r.options = o
	return r
}

func TestOptionsChooseTheServers(t *testing.T) {
	s := newServer(t)
	s.a("web.test.", 30, "10.0.0.1")
	at := netip.MustParseAddrPort(s.addr)
	for name, c := range map[string]struct {
		conf string
		o    Options
		want []string
	}{
		"in place of the machine's":  {"nameserver 192.0.2.1", Options{Servers: []netip.AddrPort{at}}, []string{"web.test. A udp"}},
		"where the machine has none": {"", Options{Servers: []netip.AddrPort{at}, Fallback: true}, []string{"web.test. A udp"}},
		"over TCP":                   {"", Options{Servers: []netip.AddrPort{at}, TCP: true}, []string{"web.test. A tcp"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.set(func() { s.seen = nil })
			a, err := with(t, c.conf, c.o).Lookup(context.Background(), "web.test", V4)
			if err != nil || len(a.V4) != 1 || a.TTL != 30*time.Second {
				t.Fatalf("%v, %v", a, err)
			}
			if got := s.asked(); !slices.Equal(got, c.want) {
				t.Errorf("asked %q, want %q", got, c.want)
			}
		})
	}
}

func TestOptionsChangeResolvConf(t *testing.T) {
	conf := "nameserver 192.0.2.1\nsearch a.test b.test\noptions timeout:3 attempts:4"
	other := netip.MustParseAddrPort("192.0.2.9:5353")
	c := with(t, conf, Options{Servers: []netip.AddrPort{other}, Fallback: true, NoSearch: true, Rotate: true, UDPSize: 4096}).config()
	if c.servers[0] != "192.0.2.1:53" || len(c.search) != 0 || !c.rotate || c.udpSize != 4096 || c.timeout != 3*time.Second || c.attempts != 4 {
		t.Errorf("%+v", c)
	}
	c = with(t, conf, Options{Servers: []netip.AddrPort{other}, Timeout: time.Second, Tries: 1}).config()
	if len(c.servers) != 1 || c.servers[0] != "192.0.2.9:5353" || c.timeout != time.Second || c.attempts != 1 || len(c.search) != 2 {
		t.Errorf("%+v", c)
	}
	if again := with(t, conf, Options{}).config(); again.servers[0] != "192.0.2.1:53" {
		t.Errorf("the file's own is changed: %+v", again)
	}
}

func TestUnroutableFamilies(t *testing.T) {
	addr := func(s string) net.Addr {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: n.Mask}
	}
	for _, c := range []struct {
		have []net.Addr
		ask  Want
		want Want
	}{
		{[]net.Addr{addr("127.0.0.1/8"), addr("10.1.2.3/24"), addr("::1/128"), addr("fe80::1/64")}, V4 | V6, V4},
		{[]net.Addr{addr("2001:db8::1/64")}, V4 | V6, V6},
		{[]net.Addr{addr("10.1.2.3/24")}, V6, V6},
		{nil, V4 | V6, V4 | V6},
	} {
		if got := routable(c.ask, c.have); got != c.want {
			t.Errorf("with %v, %d is asked for, want %d", c.have, got, c.want)
		}
	}
}

func TestOptionsEqual(t *testing.T) {
	a, b := &Options{Tries: 1}, &Options{Tries: 1}
	if !a.Equal(b) || a.Equal(nil) || (*Options)(nil).Equal(a) || !(*Options)(nil).Equal(nil) || a.Equal(&Options{Tries: 1, TCP: true}) {
		t.Error("equal options differ, or different ones are equal")
	}
}
