package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/control/ca"
)

var shopOrders = ca.Identity{Namespace: "shop", ServiceAccount: "orders"}

// mesh is a server that hands out identities.
type mesh struct {
	t                   *testing.T
	dir                 string // of the authority
	tokens              string
	shared, own, remote string // addresses
	log                 *logBuffer
}

func identityServer(t *testing.T, edit func(*Identity)) *mesh {
	t.Helper()
	run := t.TempDir()
	m := &mesh{
		t: t, dir: filepath.Join(run, "ca"), tokens: filepath.Join(run, "tokens"),
		shared: "unix:" + filepath.Join(run, "all.sock"), own: "unix:" + filepath.Join(run, "orders", "socket"),
		log: &logBuffer{more: make(chan struct{}, 1)},
	}
	folder := t.TempDir()
	writePrivate(t, filepath.Join(folder, "secrets.yaml"), "\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\nname: public\ngeneric_secret: {secret: {inline_string: word}}\n")
	o := &Identity{
		CA:     ca.Options{Dir: m.dir, TrustDomain: "shop.test", TTL: time.Hour, RootTTL: 1000 * time.Hour},
		Tokens: m.tokens, Sockets: map[string]ca.Identity{m.own: shopOrders},
	}
	if edit != nil {
		edit(o)
	}
	s, err := New(Options{
		Dir: folder, Listen: []string{m.shared, "127.0.0.1:0"}, Debounce: 10 * time.Millisecond, Identity: o,
		Logger: slog.New(slog.NewTextHandler(m.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range s.Addresses() {
		if strings.HasPrefix(a, "127.") {
			m.remote = a
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", m.log)
		}
	})
	return m
}

func writePrivate(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secrets asks for secrets on one stream.
type secrets struct {
	t    *testing.T
	next func() (resources []*tlsv3.Secret, err error)
}

func (m *mesh) ask(address, token string, delta bool, names ...string) *secrets {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	m.t.Cleanup(cancel)
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	network, path := ads.SplitAddress(address)
	target := "passthrough:///" + path
	if network == "unix" {
		target = "unix:" + path
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = conn.Close() })
	client, node := secretservice.NewSecretDiscoveryServiceClient(conn), &corev3.Node{Id: "n", Cluster: "c"}
	parse := func(raw []byte) *tlsv3.Secret {
		s := &tlsv3.Secret{}
		if err := proto.Unmarshal(raw, s); err != nil {
			m.t.Error(err)
		}
		return s
	}
	if delta {
		stream, err := client.DeltaSecrets(ctx)
		if err == nil {
			err = unlessEnded(stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: ads.SecretType, ResourceNamesSubscribe: names}))
		}
		return &secrets{m.t, func() (out []*tlsv3.Secret, _ error) {
			if err != nil {
				return nil, err
			}
			r, err := stream.Recv()
			if err != nil {
				return nil, err
			}
			for _, x := range r.Resources {
				out = append(out, parse(x.Resource.GetValue()))
			}
			return out, unlessEnded(stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: ads.SecretType, ResponseNonce: r.Nonce}))
		}}
	}
	stream, err := client.StreamSecrets(ctx)
	if err == nil {
		err = unlessEnded(stream.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: ads.SecretType, ResourceNames: names}))
	}
	return &secrets{m.t, func() (out []*tlsv3.Secret, _ error) {
		if err != nil {
			return nil, err
		}
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		for _, x := range r.Resources {
			out = append(out, parse(x.GetValue()))
		}
		return out, unlessEnded(stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: ads.SecretType, ResourceNames: names, ResponseNonce: r.Nonce, VersionInfo: r.VersionInfo}))
	}}
}

// unlessEnded is the error of a Send. io.EOF says only that the server has ended the stream: Recv
// says why (grpc.ClientStream).
func unlessEnded(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// until reads until ok, with the newest of every secret.
func (s *secrets) until(what string, ok func(have map[string]*tlsv3.Secret) bool) map[string]*tlsv3.Secret {
	s.t.Helper()
	have := map[string]*tlsv3.Secret{}
	for !ok(have) {
		list, err := s.next()
		if err != nil {
			s.t.Fatalf("while waiting for %s: %v", what, err)
		}
		for _, x := range list {
			have[x.Name] = x
		}
	}
	return have
}

func both(have map[string]*tlsv3.Secret) bool {
	return have["default"] != nil && have["ROOTCA"] != nil
}

// identityOf verifies a certificate by a bundle, in its last second, and returns who it is.
func identityOf(t *testing.T, have map[string]*tlsv3.Secret) (string, *x509.Certificate) {
	t.Helper()
	c := have["default"].GetTlsCertificate()
	pair, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(have["ROOTCA"].GetValidationContext().GetTrustedCa().GetInlineBytes())
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: pair.Leaf.NotAfter.Add(-time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.URIs[0].String(), pair.Leaf
}

// TestWorkloadIdentity: a workload gets its certificate over its own socket, others on
// the same machine do not, and no key is in a log or a file that others may read.
func TestWorkloadIdentity(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		delta := v == ads.Delta
		m := identityServer(t, nil)
		have := m.ask(m.own, "", delta, "default", "ROOTCA", "public").until("all", func(have map[string]*tlsv3.Secret) bool {
			return both(have) && have["public"] != nil
		})
		if id, _ := identityOf(t, have); id != "spiffe://shop.test/ns/shop/sa/orders" {
			t.Errorf("identity %s", id)
		}
		other := m.ask(m.own, "", delta, "default", "ROOTCA").until("another", both)
		key := have["default"].GetTlsCertificate().GetPrivateKey().GetInlineBytes()
		if bytes.Equal(key, other["default"].GetTlsCertificate().GetPrivateKey().GetInlineBytes()) {
			t.Error("two streams share a key")
		}
		lines := strings.Split(string(key), "\n")
		if text := m.log.String(); strings.Contains(text, lines[1]) || strings.Contains(text, "PRIVATE") || !strings.Contains(text, "certificate issued") {
			t.Errorf("the log says\n%s", text)
		}
		if info, err := os.Stat(strings.TrimPrefix(m.own, "unix:")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the socket: %v, %v", info.Mode(), err)
		}
	})
}

// TestRenewal: certificates are replaced on the stream well before they expire, each with
// a key of its own.
func TestRenewal(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		delta := v == ads.Delta
		m := identityServer(t, func(o *Identity) { o.CA.TTL = 2 * time.Second })
		s := m.ask(m.own, "", delta, "default", "ROOTCA")
		have := s.until("the first", both)
		_, last := identityOf(t, have)
		for range 3 {
			have["default"] = s.until("the next", func(have map[string]*tlsv3.Secret) bool { return have["default"] != nil })["default"]
			id, next := identityOf(t, have)
			if id != "spiffe://shop.test/ns/shop/sa/orders" || next.SerialNumber.Cmp(last.SerialNumber) == 0 || next.NotAfter.Before(last.NotAfter) {
				t.Errorf("%s, serial %v after %v", id, next.SerialNumber, last.SerialNumber)
			}
			last = next
		}
	})
}

// TestRootReplacedUnderway: a command makes a new root; whoever is connected trusts both at once.
func TestRootReplacedUnderway(t *testing.T) {
	m := identityServer(t, nil)
	s := m.ask(m.own, "", false, "default", "ROOTCA")
	have := s.until("the first", both)
	command, err := ca.Open(ca.Options{Dir: m.dir, TrustDomain: "shop.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := command.RotateRoot(); err != nil {
		t.Fatal(err)
	}
	have["ROOTCA"] = s.until("two roots", func(have map[string]*tlsv3.Secret) bool {
		return bytes.Count(have["ROOTCA"].GetValidationContext().GetTrustedCa().GetInlineBytes(), []byte("BEGIN CERT")) == 2
	})["ROOTCA"]
	identityOf(t, have)
}

// TestWhoIsEntitled: whatever is not clear gets nothing.
func TestWhoIsEntitled(t *testing.T) {
	good, twice := strings.Repeat("g", 40), strings.Repeat("t", 40)
	me := uint32(os.Getuid())
	setup := func(uids map[uint32]ca.Identity) *mesh {
		m := identityServer(t, func(o *Identity) { o.UIDs = uids })
		writePrivate(t, filepath.Join(m.tokens, "shop", "catalog"), good+"\n")
		writePrivate(t, filepath.Join(m.tokens, "shop", "one"), twice)
		writePrivate(t, filepath.Join(m.tokens, "shop", "two"), twice)
		writePrivate(t, filepath.Join(m.tokens, "shop", "short"), "short")
		writePrivate(t, filepath.Join(m.tokens, "shop", "open"), strings.Repeat("o", 40))
		if err := os.Chmod(filepath.Join(m.tokens, "shop", "open"), 0o644); err != nil {
			t.Fatal(err)
		}
		return m
	}
	nobody, mapped := setup(nil), setup(map[uint32]ca.Identity{me: {Namespace: "shop", ServiceAccount: "mapped"}})
	for _, c := range []struct {
		name           string
		m              *mesh
		address, token string
		ask            string
		want           string // an identity, or a code
	}{
		{"nothing shown", nobody, nobody.shared, "", "default", "PermissionDenied"},
		{"nothing shown, roots", nobody, nobody.shared, "", "ROOTCA", "PermissionDenied"},
		{"nothing shown, a secret for all", nobody, nobody.shared, "", "public", "public"},
		{"a token", nobody, nobody.shared, good, "default", "spiffe://shop.test/ns/shop/sa/catalog"},
		{"a wrong token", nobody, nobody.shared, good + "x", "default", "Unauthenticated"},
		{"a wrong token from a known user", mapped, mapped.shared, good + "x", "default", "Unauthenticated"},
		{"a short token", nobody, nobody.shared, "short", "default", "Unauthenticated"},
		{"a token of two", nobody, nobody.shared, twice, "default", "Unauthenticated"},
		{"a token that others may read", nobody, nobody.shared, strings.Repeat("o", 40), "default", "Unauthenticated"},
		{"a token over the network", nobody, nobody.remote, good, "default", "PermissionDenied"},
		{"nothing over the network", nobody, nobody.remote, "", "default", "PermissionDenied"},
		{"a known user over the network", mapped, mapped.remote, "", "default", "PermissionDenied"},
		{"a known user", mapped, mapped.shared, "", "default", "spiffe://shop.test/ns/shop/sa/mapped"},
		{"a socket of another user", mapped, mapped.own, "", "default", "PermissionDenied"},
		{"a token on the socket of another", nobody, nobody.own, good, "default", "Unauthenticated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, delta := range []bool{false, true} {
				names := []string{c.ask}
				if c.ask == "default" {
					names = append(names, "ROOTCA")
				}
				s := c.m.ask(c.address, c.token, delta, names...)
				s.t = t
				have := map[string]*tlsv3.Secret{}
				var err error
				for err == nil && !both(have) && have["public"] == nil {
					var list []*tlsv3.Secret
					list, err = s.next()
					for _, x := range list {
						have[x.Name] = x
					}
				}
				got := status.Code(err).String()
				switch {
				case err != nil && strings.Contains(err.Error(), good):
					t.Errorf("the answer quotes the token: %v", err)
				case have["public"] != nil:
					got = "public"
				case both(have):
					got, _ = identityOf(t, have)
				}
				if got != c.want {
					t.Errorf("got %s, want %s (%v)", got, c.want, err)
				}
			}
		})
	}
	if text := nobody.log.String(); strings.Contains(text, good) {
		t.Error("the log has a token")
	}
}

// TestTokenWithdrawn: a workload whose token is taken away loses its stream with the
// next renewal, and gets no other.
func TestTokenWithdrawn(t *testing.T) {
	token := strings.Repeat("k", 40)
	m := identityServer(t, func(o *Identity) { o.CA.TTL = 2 * time.Second })
	path := filepath.Join(m.tokens, "shop", "catalog")
	writePrivate(t, path, token)
	s := m.ask(m.shared, token, false, "default", "ROOTCA")
	s.until("the first", both)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, err = s.next()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("the stream ends with %v", err)
	}
	if _, err := m.ask(m.shared, token, false, "default").next(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("asked again: %v", err)
	}
}

func TestIdentityNeedsUnixSockets(t *testing.T) {
	_, err := New(Options{
		Dir: t.TempDir(), Listen: []string{"127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler),
		Identity: &Identity{
			CA:      ca.Options{Dir: filepath.Join(t.TempDir(), "ca"), TrustDomain: "a"},
			Sockets: map[string]ca.Identity{"127.0.0.1:1": shopOrders},
		},
	})
	if err == nil || !strings.Contains(err.Error(), "unix") {
		t.Errorf("%v", err)
	}
}
