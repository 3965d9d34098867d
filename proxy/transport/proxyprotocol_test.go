package transport

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

func at(s string) meta.Addr {
	if s == "" {
		return meta.Addr{}
	}
	return meta.Addr{AddrPort: netip.MustParseAddrPort(s)}
}

func TestProxyProtocolHeaders(t *testing.T) {
	const sig = "0d0a0d0a000d0a515549540a"
	for _, tc := range []struct {
		p        ProxyProtocol
		from, to string
		tlvs     []TLV
		want     string
	}{
		{ProxyProtocol{}, "10.1.2.3:1000", "10.0.0.1:80", nil, "PROXY TCP4 10.1.2.3 10.0.0.1 1000 80\r\n"},
		{ProxyProtocol{}, "[2001:db8::1]:1000", "[::1]:80", nil, "PROXY TCP6 2001:db8::1 ::1 1000 80\r\n"},
		{ProxyProtocol{}, "[fe80::1%eth0]:1000", "10.0.0.1:80", nil, "PROXY TCP6 fe80::1 ::ffff:10.0.0.1 1000 80\r\n"},
		{ProxyProtocol{V2: true}, "10.1.2.3:1000", "10.0.0.1:80", []TLV{{1, []byte("h2")}}, sig + "21" + "11" + "000c" + "0a010203" + "0a000001" + "03e8" + "0050"},
		{ProxyProtocol{V2: true, PassAll: true, Added: []TLV{{5, []byte{9}}}}, "10.1.2.3:1000", "10.0.0.1:80", []TLV{{5, []byte{1}}, {6, nil}},
			sig + "21" + "11" + "0013" + "0a010203" + "0a000001" + "03e8" + "0050" + "050001" + "09" + "060000"},
		{ProxyProtocol{V2: true, Pass: []byte{6}}, "10.1.2.3:1000", "10.0.0.1:80", []TLV{{5, []byte{1}}, {6, nil}},
			sig + "21" + "11" + "000f" + "0a010203" + "0a000001" + "03e8" + "0050" + "060000"},
		{ProxyProtocol{V2: true}, "[::1]:1", "[::2]:2", nil,
			sig + "21" + "21" + "0024" + "00000000000000000000000000000001" + "00000000000000000000000000000002" + "0001" + "0002"},
		{ProxyProtocol{V2: true}, "", "", nil, sig + "20" + "00" + "0000"},
	} {
		got := string(tc.p.header(nil, &Peer{Source: at(tc.from), Dest: at(tc.to), TLVs: tc.tlvs}))
		if tc.p.V2 {
			got = hex.EncodeToString([]byte(got))
		}
		if got != tc.want {
			t.Errorf("%+v from %s to %s:\n%q, want\n%q", tc.p, tc.from, tc.to, got, tc.want)
		}
	}
}

// TestTLVsThatDoNotFit: the header's length has 16 bits.
func TestTLVsThatDoNotFit(t *testing.T) {
	p := ProxyProtocol{V2: true, Added: []TLV{{1, make([]byte, 65000)}, {2, make([]byte, 1000)}, {3, []byte{7}}}}
	h := p.header(nil, &Peer{Source: at("1.1.1.1:1"), Dest: at("2.2.2.2:2")})
	if n := int(h[14])<<8 | int(h[15]); n != len(h)-16 || n != 12+3+65000+3+1 {
		t.Errorf("the header says %d bytes and has %d", n, len(h)-16)
	}
}

func TestHostTLVsWin(t *testing.T) {
	p := ProxyProtocol{V2: true, PassAll: true, Added: []TLV{{1, []byte("socket")}, {2, []byte("socket")}}}
	to := &Peer{
		HostTLVs: []TLV{{1, []byte("host")}}, TLVs: []TLV{{2, []byte("client")}, {3, []byte("client")}, {4, []byte("client")}},
	}
	got := ""
	for _, t := range p.tlvs(to) {
		got += string(t.Value) + " "
	}
	if got != "host socket client client " {
		t.Errorf("%q", got)
	}
	to.Options.TLVs = []TLV{{2, []byte("filter")}, {5, []byte("filter")}, {5, []byte("again")}}
	got = ""
	for _, t := range p.tlvs(to) {
		got += string(t.Value) + " "
	}
	if got != "host socket filter again " {
		t.Errorf("a filter has the say over what the client sent: %q", got)
	}
}

func TestPoolKeys(t *testing.T) {
	p := &ProxyProtocol{V2: true, PassAll: true, Inner: Raw{}}
	a := Peer{Source: at("1.1.1.1:1"), Dest: at("2.2.2.2:2")}
	b := Peer{Source: at("1.1.1.1:2"), Dest: at("2.2.2.2:2")}
	c := Peer{Source: at("1.1.1.1:1"), Dest: at("2.2.2.2:2"), TLVs: []TLV{{1, nil}}}
	if p.PoolKey(a) == p.PoolKey(b) || p.PoolKey(a) == p.PoolKey(c) || p.PoolKey(a) != p.PoolKey(Peer{Source: a.Source, Dest: a.Dest}) {
		t.Error("connections are shared by who must not, or not by who may")
	}
	if q := (&ProxyProtocol{Inner: Raw{}}); p.Key() == q.Key() {
		t.Error("two configurations have one key")
	}
}

// TestTheHeaderComesFirst plays it over a socket; version 1 for nobody in particular
// tells the addresses of the connection itself.
func TestTheHeaderComesFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was only used here
	raw, err := netio.Dial(context.Background(), netio.DialOptions{Addr: at(l.Addr().String())})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := (&ProxyProtocol{Inner: Raw{}}).Client(ctx, raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close() //nolint:errcheck // it was only used here
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	got, err := io.ReadAll(peer)
	want := string(appendV1(nil, meta.AddrOf(peer.RemoteAddr()), meta.AddrOf(peer.LocalAddr()))) + "hello"
	if err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// TestTLSBehindTheHeader: TLS follows the header, is counted as that of any cluster, and what
// it fails with is told as such.
func TestTLSBehindTheHeader(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{DNSNames: []string{"a.test"}}))}
	for _, trusted := range []*authority{ca, other} {
		up := &UpstreamTLS{TLS: contextOf(), SNI: "a.test"}
		up.ValidationBase = &secret.Validation{CAs: []*x509.Certificate{trusted.cert}}
		c, s := sockets(t)
		to := &Peer{Source: at("1.1.1.1:1"), Dest: at("2.2.2.2:2"), Stats: &TLSStats{}}
		want := "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"
		served := make(chan error, 1)
		go func() {
			head := make([]byte, len(want))
			if _, err := io.ReadFull(s, head); err != nil || string(head) != want {
				t.Errorf("got %q, %v", head, err)
			}
			conn, err := down.Server(t.Context(), s, &meta.Conn{}, &TLSStats{})
			if err == nil {
				_ = conn.Close() // it has served
			}
			served <- err
		}()
		conn, err := (&ProxyProtocol{Inner: up}).Client(t.Context(), c, to)
		if good := trusted == ca; good != (err == nil) || good != (to.TLS != nil) ||
			good != (to.Stats.Handshake.Value() == 1) || good == (to.Stats.FailError.Value() == 1) {
			t.Errorf("trusted %t: %v, %d handshakes, %d refused", good, err, to.Stats.Handshake.Value(), to.Stats.FailError.Value())
		}
		if err == nil {
			_ = conn.Close() // nothing is said
		} else if !errors.As(err, new(*Failure)) {
			t.Errorf("the failure is %v", err)
		}
		<-served
	}
}
