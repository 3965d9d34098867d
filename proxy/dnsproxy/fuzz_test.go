package dnsproxy

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// Whatever a program sends is answered with a message for it, or not at all.
func FuzzQuery(f *testing.F) {
	for _, q := range []*dns.Msg{
		new(dns.Msg).SetQuestion("shop.mesh.", dns.TypeA),
		new(dns.Msg).SetQuestion("x.shop.mesh.outside.", dns.TypeANY).SetEdns0(4096, true),
		new(dns.Msg).SetQuestion("www.outside.", dns.TypeAAAA),
	} {
		f.Add(packed(f, q))
	}
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\xff"))
	names, err := NewNames(map[string][]netip.Addr{"shop.mesh": {netip.MustParseAddr("10.9.0.1")}, "*.w": {netip.MustParseAddr("fd00::1")}}, "")
	if err != nil {
		f.Fatal(err)
	}
	s := newServer(Options{Names: names, Search: []string{"outside"}})
	f.Fuzz(func(t *testing.T, msg []byte) {
		q, a := s.known(msg, netip.MustParseAddrPort("127.0.0.1:4242"))
		if q == nil {
			return
		}
		if a == nil {
			a = failure(q, dns.RcodeServerFailure)
		}
		for _, udp := range []bool{true, false} {
			out := pack(q, a, udp)
			got := new(dns.Msg)
			if err := got.Unpack(out); err != nil || got.Id != q.Id || !got.Response {
				t.Fatalf("%x: %v", out, err)
			}
			if udp && len(out) > maxSize {
				t.Fatalf("%d bytes", len(out))
			}
		}
	})
}

// Whatever a resolver sends can be judged, remembered and passed on.
func FuzzAnswer(f *testing.F) {
	up := new(dns.Msg).SetQuestion("www.outside.", dns.TypeA)
	up.Id = 0x1234
	a := new(dns.Msg).SetReply(up)
	rr, err := dns.NewRR("www.outside. 60 IN A 10.1.2.3")
	if err != nil {
		f.Fatal(err)
	}
	a.Answer = []dns.RR{rr}
	f.Add(packed(f, a))
	f.Add(packed(f, a.Copy().SetEdns0(4096, true)))
	s := newServer(Options{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		a, err := s.answerTo(up, msg)
		if err != nil {
			return
		}
		s.cache.put(keyOf(up), a)
		for _, m := range []*dns.Msg{a, s.cache.get(keyOf(up))} {
			if m != nil {
				if out := pack(up, m, true); len(out) > plainSize {
					t.Fatalf("%d bytes", len(out))
				}
			}
		}
	})
}
