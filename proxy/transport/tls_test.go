package transport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// authority issues certificates.
type authority struct {
	t      *testing.T
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, serial: 1}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
	return a
}

func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	c.SerialNumber = big.NewInt(a.serial)
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out, key
}

func (a *authority) issue(c *x509.Certificate) *secret.Certificate {
	a.t.Helper()
	if c.KeyUsage == 0 {
		c.KeyUsage = x509.KeyUsageDigitalSignature
	}
	leaf, key := a.sign(c)
	out, err := secret.NewCertificate([]*x509.Certificate{leaf}, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

func (a *authority) revoke(serial *big.Int) *x509.RevocationList {
	a.t.Helper()
	raw, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: serial, RevocationTime: time.Now()}},
	}, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return l
}

func contextOf(certs ...*secret.Certificate) TLS {
	t := TLS{Min: tls.VersionTLS12, Max: tls.VersionTLS13}
	for _, c := range certs {
		t.Certificates = append(t.Certificates, secret.Static(c))
	}
	return t
}

// sockets returns both ends of a connection.
func sockets(t *testing.T) (client, server *netio.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return netio.NewConn(c), netio.NewConn(s)
}

// shake makes a handshake and sends a byte each way, so that either side knows what the
// other made of it.
func shake(t *testing.T, down *DownstreamTLS, up *UpstreamTLS, to *Peer, m *meta.Conn, st *TLSStats) (client, server *netio.Conn, cerr, serr error) {
	t.Helper()
	c, s := sockets(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if server, serr = down.Server(ctx, s, m, st); serr == nil {
			t.Cleanup(func() { _ = server.Close() })
			_, serr = server.Write([]byte("s"))
		}
	}()
	if client, cerr = up.Client(ctx, c, to); cerr == nil {
		t.Cleanup(func() { _ = client.Close() })
		_, cerr = client.Read(make([]byte, 1))
	}
	<-done
	return client, server, cerr, serr
}

// TestVerify: every rule accepts what it should, and refuses what it should with Envoy's
// words and counter.
func TestVerify(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	spiffe := &url.URL{Scheme: "spiffe", Host: "td", Path: "/a"}
	names := x509.Certificate{
		DNSNames: []string{"a.test", "*.wild.test"}, URIs: []*url.URL{spiffe}, EmailAddresses: []string{"a@b"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
	}
	good, foreign := ca.issue(&names), other.issue(&names)
	old := ca.issue(&x509.Certificate{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	wrong := ca.issue(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	cas := []*x509.Certificate{ca.cert}
	san := func(k secret.SANKind, m match.String) *secret.Validation {
		return &secret.Validation{CAs: cas, SANs: []secret.SAN{{Kind: k, Text: m}}}
	}
	td := map[string]*secret.Domain{"td": {CAs: cas}}
	for _, c := range []struct {
		name  string
		v     *secret.Validation
		cert  *secret.Certificate
		fails string // "" is accepted
		count func(*TLSStats) uint64
	}{
		{"trusted", &secret.Validation{CAs: cas}, good, "", nil},
		{"none, not required", &secret.Validation{CAs: cas}, nil, "", nil},
		{"foreign", &secret.Validation{CAs: cas}, foreign, "unable to get local issuer certificate", (*TLSStats).failError},
		{"foreign, anything", &secret.Validation{CAs: cas, Anything: true}, foreign, "", nil},
		{"expired", &secret.Validation{CAs: cas}, old, "certificate has expired", (*TLSStats).failError},
		{"expired, allowed", &secret.Validation{CAs: cas, Expired: true}, old, "", nil},
		{"foreign, expired allowed", &secret.Validation{CAs: cas, Expired: true}, foreign, "unable to get local issuer", (*TLSStats).failError},
		{"purpose", &secret.Validation{CAs: cas}, wrong, "unsupported certificate purpose", (*TLSStats).failError},
		{"uri", san(secret.URISAN, match.Prefix("spiffe://td/", false)), good, "", nil},
		{"uri of another", san(secret.URISAN, match.Exact("spiffe://td/b", false)), good, "SAN matcher, certificate SANs are [a.test, *.wild.test, a@b, 10.0.0.1, spiffe://td/a]", (*TLSStats).failSAN},
		{"kind of another", san(secret.DNSSAN, match.Prefix("spiffe://td/", false)), good, "SAN matcher, certificate SANs are [a.test, *.wild.test, a@b, 10.0.0.1, spiffe://td/a]", (*TLSStats).failSAN},
		{"email", san(secret.EmailSAN, match.Suffix("@b", false)), good, "", nil},
		{"ip", san(secret.IPSAN, match.Exact("10.0.0.1", false)), good, "", nil},
		{"wildcard", &secret.Validation{CAs: cas, SANs: []secret.SAN{{Kind: secret.DNSSAN, Exact: "x.wild.test"}}}, good, "", nil},
		{"wildcard too deep", &secret.Validation{CAs: cas, SANs: []secret.SAN{{Kind: secret.DNSSAN, Exact: "x.y.wild.test"}}}, good, "SAN matcher, certificate SANs are [a.test, *.wild.test, a@b, 10.0.0.1, spiffe://td/a]", (*TLSStats).failSAN},
		{"name matches, chain does not", san(secret.URISAN, match.Prefix("spiffe://td/", false)), foreign, "unable to get local issuer", (*TLSStats).failError},
		{"hash", &secret.Validation{Hashes: [][32]byte{sha256.Sum256(good.Leaf().Raw)}}, good, "", nil},
		{"spki", &secret.Validation{SPKIs: [][32]byte{sha256.Sum256(good.Leaf().RawSubjectPublicKeyInfo)}}, good, "", nil},
		{"hash of another", &secret.Validation{Hashes: [][32]byte{{1}}}, good, "cert hash and spki", (*TLSStats).failHash},
		{"revoked", &secret.Validation{CAs: cas, CRLs: []*x509.RevocationList{ca.revoke(good.Leaf().SerialNumber)}}, good, "certificate revoked", (*TLSStats).failError},
		{"another revoked", &secret.Validation{CAs: cas, CRLs: []*x509.RevocationList{ca.revoke(big.NewInt(999))}}, good, "", nil},
		{"list of another", &secret.Validation{CAs: cas, CRLs: []*x509.RevocationList{other.revoke(big.NewInt(999))}}, good, "unable to get certificate CRL", (*TLSStats).failError},
		{"spiffe", &secret.Validation{Domains: td}, good, "", nil},
		{"spiffe, foreign", &secret.Validation{Domains: td}, foreign, "unable to get local issuer", (*TLSStats).failError},
		{"spiffe, no domain", &secret.Validation{Domains: td}, old, "no trust bundle store", (*TLSStats).failError},
	} {
		t.Run(c.name, func(t *testing.T) {
			down := &DownstreamTLS{TLS: contextOf(good)}
			down.ValidationBase = c.v
			up := &UpstreamTLS{TLS: contextOf()}
			if c.cert != nil {
				up.TLS = contextOf(c.cert)
			}
			var m meta.Conn
			st := &TLSStats{}
			_, _, _, err := shake(t, down, up, nil, &m, st)
			switch {
			case c.fails == "" && err != nil:
				t.Fatal(err)
			case c.fails == "":
				if wants := c.cert != nil && !c.v.Anything; m.PeerValidated != wants {
					t.Errorf("validated is %t", m.PeerValidated)
				}
			case err == nil || !strings.Contains(err.Error(), c.fails) || !strings.Contains(err.Error(), "CERTIFICATE_VERIFY_FAILED"):
				t.Errorf("got %v", err)
			case c.count(st) != 1 || st.Handshake.Value() != 0:
				t.Error("not counted")
			}
		})
	}
}

func (s *TLSStats) failError() uint64 { return s.FailError.Value() }
func (s *TLSStats) failSAN() uint64   { return s.FailSAN.Value() }
func (s *TLSStats) failHash() uint64  { return s.FailHash.Value() }

// TestRequired: without a certificate there is no connection where one is required.
func TestRequired(t *testing.T) {
	ca := newAuthority(t, "ca")
	st := &TLSStats{}
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{})), RequireClientCertificate: true}
	down.ValidationBase = &secret.Validation{CAs: []*x509.Certificate{ca.cert}}
	if _, _, _, err := shake(t, down, &UpstreamTLS{TLS: contextOf()}, nil, &meta.Conn{}, st); err == nil || st.FailNoCert.Value() != 1 {
		t.Errorf("got %v, counted %d", err, st.FailNoCert.Value())
	}
}

// TestResumedSessionsAreVerified: what is trusted may have changed since the first
// handshake.
func TestResumedSessionsAreVerified(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	cert := ca.issue(&x509.Certificate{})
	keys, err := secret.NewTicketKeys([][]byte{make([]byte, 80)})
	if err != nil {
		t.Fatal(err)
	}
	server := func(trusted *authority) *DownstreamTLS {
		d := &DownstreamTLS{TLS: contextOf(cert), RequireClientCertificate: true, TicketKeys: secret.Static(keys)}
		d.ValidationBase = &secret.Validation{CAs: []*x509.Certificate{trusted.cert}}
		return d
	}
	up := &UpstreamTLS{TLS: contextOf(cert), SNI: "a.test", MaxSessions: 1}
	st := &TLSStats{}
	for i, want := range []bool{false, true} {
		var m meta.Conn
		if _, _, cerr, serr := shake(t, server(ca), up, nil, &m, st); cerr != nil || serr != nil {
			t.Fatal(cerr, serr)
		}
		if m.TLS.Resumed != want {
			t.Fatalf("handshake %d: resumed is %t", i, m.TLS.Resumed)
		}
	}
	if _, _, _, err := shake(t, server(other), up, nil, &meta.Conn{}, st); err == nil {
		t.Error("a session outlived the trust in its certificate")
	}
}

// TestNoCommonALPN: the handshake goes on without a protocol.
func TestNoCommonALPN(t *testing.T) {
	ca := newAuthority(t, "ca")
	for want, offer := range map[string][]string{"": {"istio"}, "h2": {"istio", "h2"}} {
		down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{}))}
		down.ALPN = []string{"h2", "http/1.1"}
		up := &UpstreamTLS{TLS: contextOf()}
		up.ALPN = offer
		var m meta.Conn
		to := &Peer{}
		if _, _, cerr, serr := shake(t, down, up, to, &m, &TLSStats{}); cerr != nil || serr != nil {
			t.Fatal(cerr, serr)
		}
		if m.TLS.ALPN != want || to.TLS.ALPN != want {
			t.Errorf("agreed on %q and %q, want %q", m.TLS.ALPN, to.TLS.ALPN, want)
		}
	}
}

// TestServerName: filters win over the host's name, that over the configured one; and the
// name that is sent is the one that is verified.
func TestServerName(t *testing.T) {
	ca := newAuthority(t, "ca")
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{DNSNames: []string{"host.test"}}))}
	for _, c := range []struct {
		to   Peer
		want string
		ok   bool
	}{
		{Peer{}, "configured.test", false},
		{Peer{Hostname: "host.test"}, "host.test", true},
		{Peer{Hostname: "host.test", Options: Options{ServerName: "filter.test"}}, "filter.test", false},
		{Peer{Options: Options{ServerName: "filter.test", SANs: []string{"host.test"}}}, "filter.test", true},
	} {
		up := &UpstreamTLS{TLS: contextOf(), SNI: "configured.test", AutoHostSNI: true, AutoSAN: true}
		up.ValidationBase = &secret.Validation{CAs: []*x509.Certificate{ca.cert}}
		_, _, err, _ := shake(t, down, up, &c.to, &meta.Conn{}, &TLSStats{})
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.to, err)
		}
		if c.ok && c.to.TLS.ServerName != c.want {
			t.Errorf("sent %q, want %q", c.to.TLS.ServerName, c.want)
		}
	}
}

// TestHalfOpenHandshake: who says nothing, or not enough, is closed when the time is up, which
// is no failure of TLS; nonsense is one at once.
func TestHalfOpenHandshake(t *testing.T) {
	ca := newAuthority(t, "ca")
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{}))}
	for said, nonsense := range map[string]uint64{
		"": 0, "\x16\x03\x01\x40\x00": 0, "\x16\x03\x01\xff\xff": 1, "GET / HTTP/1.1\r\n\r\n": 1, "\x00\x00\x00\x00\x00\x00": 1,
	} {
		c, s := sockets(t)
		if _, err := c.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		st := &TLSStats{}
		_, err := down.Server(ctx, s, &meta.Conn{}, st)
		if errors.Is(err, context.DeadlineExceeded) != (nonsense == 0) || err == nil || st.ConnectionError.Value() != nonsense {
			t.Errorf("%q: %v, counted %d", said, err, st.ConnectionError.Value())
		}
		cancel()
		_ = c.Close()
	}
}

// TestBothWays: bytes of any size, both ways at once, arrive as they were sent, and the end
// of one direction leaves the other open.
func TestBothWays(t *testing.T) {
	ca := newAuthority(t, "ca")
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{}))}
	client, server, cerr, serr := shake(t, down, &UpstreamTLS{TLS: contextOf()}, nil, &meta.Conn{}, &TLSStats{})
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	sent := make([]byte, 3<<20)
	_, _ = rand.Read(sent)
	send := func(c *netio.Conn) error {
		var b buffer.Buf
		for rest, n := sent, 1; len(rest) > 0; n = n*3%50_000 + 1 {
			k := min(n, len(rest))
			b.Append(rest[:k/2])
			var second buffer.Buf
			second.Append(rest[k/2 : k])
			b.MoveAll(&second)
			if err := c.WriteBuf(&b); err != nil {
				return err
			}
			rest = rest[k:]
		}
		return c.CloseWrite()
	}
	receive := func(c *netio.Conn) ([]byte, error) {
		var b buffer.Buf
		defer b.Release()
		for {
			if _, err := c.ReadBuf(&b); err != nil {
				return b.Bytes(), err
			}
		}
	}
	errs := make(chan error, 2)
	got := make(chan []byte, 2)
	for _, c := range []*netio.Conn{client, server} {
		_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
		go func() { errs <- send(c) }()
		go func() {
			b, _ := receive(c)
			got <- b
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
		if b := <-got; !bytes.Equal(b, sent) {
			t.Errorf("got %d bytes, not the %d that were sent", len(b), len(sent))
		}
	}
}

// TestInterruptedReadGoesOn: neither a deadline nor an interruption ends a TLS connection.
func TestInterruptedReadGoesOn(t *testing.T) {
	ca := newAuthority(t, "ca")
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{}))}
	client, server, cerr, serr := shake(t, down, &UpstreamTLS{TLS: contextOf()}, nil, &meta.Conn{}, &TLSStats{})
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	var b buffer.Buf
	defer b.Release()
	_ = server.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := server.ReadBuf(&b); err == nil {
		t.Error("read after the deadline")
	}
	_ = server.SetReadDeadline(time.Time{})
	server.Interrupt()
	if _, err := server.ReadBuf(&b); err != netio.ErrInterrupted { //nolint:errorlint // exactly that
		t.Errorf("got %v", err)
	}
	server.Resume()
	if _, err := server.TryReadBuf(&b); err != netio.ErrWouldBlock { //nolint:errorlint // exactly that
		t.Errorf("got %v", err)
	}
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ReadBuf(&b); err != nil || string(b.Bytes()) != "hello" {
		t.Errorf("got %q, %v", b.Bytes(), err)
	}
}

// TestFailedHandshakeKeepsNothing: what has arrived behind what was wrong is released, on
// both sides; TestMain looks.
func TestFailedHandshakeKeepsNothing(t *testing.T) {
	ca := newAuthority(t, "ca")
	down, up := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{}))}, &UpstreamTLS{TLS: contextOf()}
	for _, server := range []bool{true, false} {
		c, s := sockets(t)
		if _, err := s.Write([]byte("\x16\x03\x03\x00\x05hello" + strings.Repeat("\x17\x03\x03\x01\x00", 100))); err != nil {
			t.Fatal(err)
		}
		var err error
		if st := (&TLSStats{}); server {
			_, err = down.Server(t.Context(), c, &meta.Conn{}, st)
		} else {
			_, err = up.Client(t.Context(), c, &Peer{Stats: st})
		}
		if err == nil {
			t.Error("a handshake of nonsense")
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("the connection is still open")
		}
		_ = s.Close() // the test is over
	}
}
