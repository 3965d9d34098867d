package pod

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func query(t testing.TB, name string, typ dnsmessage.Type) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 77, RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		t.Fatal(err)
	}
	if err := b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}); err != nil {
		t.Fatal(err)
	}
	out, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestResolverAnswersForTheNode(t *testing.T) {
	r := &resolver{names: newNames()}
	r.names.set("Cart", []netip.Addr{netip.MustParseAddr("10.201.0.10"), netip.MustParseAddr("fd00::a")})
	for _, tc := range []struct {
		name string
		typ  dnsmessage.Type
		code dnsmessage.RCode
		want []string
	}{
		{"cart.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, []string{"10.201.0.10"}},
		{"CART.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, []string{"fd00::a"}},
		{"cart.", dnsmessage.TypeMX, dnsmessage.RCodeSuccess, nil},
		{"elsewhere.", dnsmessage.TypeA, dnsmessage.RCodeNameError, nil},
	} {
		var m dnsmessage.Message
		if err := m.Unpack(r.answer(t.Context(), query(t, tc.name, tc.typ))); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range m.Answers {
			switch b := a.Body.(type) {
			case *dnsmessage.AResource:
				got = append(got, netip.AddrFrom4(b.A).String())
			case *dnsmessage.AAAAResource:
				got = append(got, netip.AddrFrom16(b.AAAA).String())
			}
		}
		if m.ID != 77 || !m.Response || m.RCode != tc.code || !slices.Equal(got, tc.want) {
			t.Errorf("%s %v: %+v", tc.name, tc.typ, m)
		}
	}
}

func TestResolverAsksTheHostsServers(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		b := make([]byte, maxDatagram)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			// An answer to another question comes first and must be ignored.
			_, _ = pc.WriteTo([]byte{0, 1, 2}, from)
			_, _ = pc.WriteTo(append(slices.Clone(b[:n]), "answered"...), from)
		}
	}()
	dead := netip.MustParseAddrPort("127.0.0.1:1")
	r := &resolver{names: newNames(), upstream: []netip.AddrPort{dead, pc.LocalAddr().(*net.UDPAddr).AddrPort()}}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	q := query(t, "example.com.", dnsmessage.TypeA)
	if got := r.answer(ctx, q); string(got) != string(q)+"answered" {
		t.Errorf("answer %q", got)
	}
	cancel()
	started := time.Now()
	var m dnsmessage.Message
	if err := m.Unpack(r.answer(ctx, q)); err != nil || m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("without servers: %+v %v", m, err)
	}
	if time.Since(started) > queryTimeout {
		t.Error("the end of the node did not end the query")
	}
}

// Of two pods with one name the later one has it, also when the first one ends.
func TestNamesAreWithdrawnByTheirOwner(t *testing.T) {
	n := newNames()
	first, second := []netip.Addr{netip.MustParseAddr("10.201.0.10")}, []netip.Addr{netip.MustParseAddr("10.201.0.11")}
	n.set("cart", first)
	n.set("cart", second)
	n.withdraw("cart", first)
	if got, ok := n.get("cart"); !ok || !slices.Equal(got, second) {
		t.Errorf("%v %v", got, ok)
	}
	n.withdraw("cart", second)
	if got, ok := n.get("cart"); ok {
		t.Errorf("%v", got)
	}
}

func TestHostResolvers(t *testing.T) {
	etc := fstest.MapFS{"resolv.conf": &fstest.MapFile{Data: []byte("# x\nnameserver 10.0.0.1\nnameserver bad\nsearch a b\nnameserver fe80::1%eth0\n")}}
	if got := hostResolvers(etc); len(got) != 2 || got[0].String() != "10.0.0.1:53" || got[1].String() != "[fe80::1%eth0]:53" {
		t.Errorf("%v", got)
	}
	if got := hostResolvers(fstest.MapFS{}); got != nil {
		t.Errorf("%v", got)
	}
}

func TestNetworkNumbering(t *testing.T) {
	n := network{netip.MustParsePrefix("10.201.0.0/16"), netip.MustParsePrefix("fd6d:6563:6861::/64")}
	for i, want := range map[int][2]string{1: {"10.201.0.1", "fd6d:6563:6861::1"}, 300: {"10.201.1.44", "fd6d:6563:6861::12c"}} {
		v4 := n.nth(n.V4, i)
		if v4.String() != want[0] || n.peer(v4).String() != want[1] {
			t.Errorf("%d: %v %v, want %v", i, v4, n.peer(v4), want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(query(f, "cart.", dnsmessage.TypeA))
	f.Add(query(f, "a.b.c.", dnsmessage.TypeAAAA))
	f.Add([]byte{0, 77, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c})
	r := &resolver{names: newNames()}
	r.names.set("cart", []netip.Addr{netip.MustParseAddr("10.201.0.10"), netip.MustParseAddr("fd00::a")})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := r.answer(context.Background(), b)
		if a == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(a); err != nil || !m.Response {
			t.Errorf("answer to %q does not parse: %v", b, err)
		}
	})
}
