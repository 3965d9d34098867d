package xds_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// pair is a self-signed certificate with its key, in PEM.
type pair struct{ cert, key string }

// heldIn looks for keys in a text: as they are, and as bytes stand in JSON.
func heldIn(text string, pairs ...pair) string {
	for _, p := range pairs {
		line := strings.Split(p.key, "\n")[1]
		der, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return err.Error()
		}
		for _, form := range []string{line, string(der[len(der)/2:]), base64.StdEncoding.EncodeToString([]byte(p.key))[60:120]} {
			if strings.Contains(text, form) {
				return "a key"
			}
		}
	}
	if strings.Contains(text, "PRIVATE KEY") {
		return "the begin of a key"
	}
	return ""
}

func newPair(t testing.TB, serial int64) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})),
	}
}

func inline(s string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(s)}}
}

func (p pair) secret(name string) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(p.cert), PrivateKey: inline(p.key),
	}}}
}

func (p pair) trust(name string) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(p.cert)}}}
}

const (
	sdsOverADS = `{ads: {}, resource_api_version: V3, initial_fetch_timeout: %s}`
	sdsStream  = `{api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}, resource_api_version: V3, initial_fetch_timeout: %s}`
	sdsDelta   = `{api_config_source: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}, resource_api_version: V3, initial_fetch_timeout: %s}`
)

// tlsListener answers every request with its name, behind TLS with the certificate that
// an SdsSecretConfig, in YAML, names.
func tlsListener(t *testing.T, name, named string) *listenerv3.Listener {
	t.Helper()
	l := httpListener(t, name, "route_config: "+answers("r", name)+routerFilter)
	l.FilterChains[0].TransportSocket = message(t, &corev3.TransportSocket{}, `
name: tls
typed_config:
  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
  common_tls_context: {tls_certificate_sds_secret_configs: [`+named+`]}`)
	return l
}

func named(name, source, timeout string) string {
	return fmt.Sprintf("{name: %q, sds_config: "+source+"}", name, timeout)
}

// serial shakes hands with a listener and returns the serial number of its certificate.
func (k *kit) serial(listener string) (int64, error) {
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", k.port(listener)), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // it was only used here
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func (k *kit) untilSerial(listener string, want int64) {
	k.t.Helper()
	until(k.t, fmt.Sprintf("certificate %d of %s", want, listener), func() bool {
		got, err := k.serial(listener)
		if err != nil {
			k.t.Fatalf("%s: %v", listener, err)
		}
		return got == want
	})
}

func (k *kit) listening(listener string) bool {
	for _, l := range k.server.Listeners.Listeners() {
		if l.Name() == listener {
			return true
		}
	}
	return false
}

// dumpText is config_dump.
func (k *kit) dumpText() string {
	k.t.Helper()
	active, warming := k.server.Clusters.All()
	text, err := k.manager.Dump(&bootstrapv3.Bootstrap{}, xds.DumpOptions{Active: active, Warming: warming})
	if err != nil {
		k.t.Fatal(err)
	}
	return string(text)
}

// logged keeps what is logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) option(o *xds.Options) {
	o.Log = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestSecretsByName: a listener waits for its certificate, unless it is told (delta) that
// there is none; it shakes hands with each new one
// while connections of before go on, stays with the last good one when the next is bad or
// the server is gone, and what is shown of it holds no key.
func TestSecretsByName(t *testing.T) {
	if p := newPair(t, 1); heldIn("x"+p.key, p) == "" || heldIn(base64.StdEncoding.EncodeToString([]byte(p.key)), p) == "" {
		t.Fatal("a key would not be found")
	}
	for name, source := range map[string]string{"ads": sdsOverADS, "stream": sdsStream, "delta": sdsDelta} {
		t.Run(name, func(t *testing.T) {
			log := &logged{}
			plane := xdstest.New(t)
			plane.Set(tlsListener(t, "l", named("cert", source, "0s")), httpListener(t, "plain", "route_config: "+answers("r", "plain")+routerFilter))
			k := proxyOf(t, plane, fmt.Sprintf(overADS, "DELTA_GRPC"), log.option)
			if got := k.get("plain", "/"); got != "200 plain" {
				t.Fatal(got)
			}
			plane.Await("the question", func(r xdstest.Request) bool { return r.TypeURL == ads.SecretType })
			updates := int64(2)
			if source == sdsStream {
				if k.listening("l") {
					t.Error("the listener did not wait for its certificate")
				}
			} else {
				updates++ // that there is none
				until(t, "the end of the wait", func() bool { return k.listening("l") })
				if n, err := k.serial("l"); err == nil {
					t.Errorf("certificate %d", n)
				}
			}
			one, two, three := newPair(t, 1), newPair(t, 2), newPair(t, 3)
			plane.Set(one.secret("cert"))
			until(t, "the first certificate", func() bool {
				if !k.listening("l") {
					return false
				}
				n, err := k.serial("l")
				return err == nil && n == 1
			})
			old, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", k.port("l")), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close() //nolint:errcheck // it was only used here
			exchange(t, old)

			plane.Set(two.secret("cert"))
			k.untilSerial("l", 2)
			exchange(t, old)

			bad := two.secret("cert")
			bad.GetTlsCertificate().PrivateKey = inline(three.key)
			plane.Set(bad)
			refusal := plane.Await("the refusal", func(r xdstest.Request) bool { return r.TypeURL == ads.SecretType && r.Error != "" })
			if !strings.Contains(refusal.Error, "cert: tls_certificate.private_key: ") {
				t.Errorf("refused with %q", refusal.Error)
			}
			plane.Set(two.trust("cert"))
			plane.Await("the refusal of another kind", func(r xdstest.Request) bool {
				return strings.Contains(r.Error, "cert: is a validation_context, and a tls_certificate is needed")
			})
			k.untilSerial("l", 2)
			exchange(t, old)
			for stat, want := range map[string]int64{"update_success": updates, "update_rejected": 2, "key_rotation_failed": 0, "init_fetch_timeout": 0} {
				until(t, fmt.Sprintf("sds.cert.%s: %d", stat, want), func() bool { return k.stat("sds.cert."+stat) == want })
			}
			if n := k.stat("sds.cert.update_empty"); n != -1 {
				t.Errorf("update_empty is %d", n)
			}
			plane.Kill()
			k.untilSerial("l", 2)
			plane.Set(three.secret("cert"))
			plane.Restart()
			k.untilSerial("l", 3)
			exchange(t, old)

			text := k.dumpText()
			hidden := base64.StdEncoding.EncodeToString([]byte("[redacted]"))
			if !strings.Contains(text, `"dynamic_active_secrets"`) || !strings.Contains(text, hidden) {
				t.Errorf("config_dump:\n%s", text)
			}
			for where, text := range map[string]string{"config_dump": text, "the log": log.String()} {
				if has := heldIn(text, one, two, three); has != "" {
					t.Errorf("%s is in %s", has, where)
				}
			}
			plane.Remove(ads.ListenerType, "l")
			until(t, "the end of the subscription", func() bool { return k.stat("sds.cert.update_success") == -1 })
			if strings.Contains(k.dumpText(), "dynamic_active_secrets") {
				t.Error("a secret that nobody uses is shown")
			}
			if source != sdsOverADS {
				until(t, "the end of the stream", func() bool { return plane.Open() == 1 })
			}
		})
	}
}

// exchange sends a request over a connection that is open.
func exchange(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nhost: a\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	for got := ""; !strings.HasSuffix(got, "\r\n\r\nl"); {
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		got += string(b[:n])
	}
}

// TestSecretThatDoesNotCome: after initial_fetch_timeout the listener is there and
// refuses, and works as soon as the secret has come.
func TestSecretThatDoesNotCome(t *testing.T) {
	plane := xdstest.New(t)
	plane.Set(tlsListener(t, "l", named("cert", sdsStream, "0.05s")))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"))
	if n, err := k.serial("l"); err == nil {
		t.Errorf("certificate %d", n)
	}
	scope := fmt.Sprintf("listener.127.0.0.1_%d.server_ssl_socket_factory.downstream_context_secrets_not_ready", k.port("l"))
	until(t, "the count", func() bool {
		return k.stat(scope) == 1 || k.stat("listener.127.0.0.1_0.server_ssl_socket_factory.downstream_context_secrets_not_ready") == 1
	})
	if n := k.stat("sds.cert.init_fetch_timeout"); n != 1 {
		t.Errorf("init_fetch_timeout is %d", n)
	}
	if !strings.Contains(k.dumpText(), `"uninitialized"`) {
		t.Error("config_dump does not show that it is missing")
	}
	plane.Set(newPair(t, 7).secret("cert"))
	until(t, "a handshake", func() bool { n, _ := k.serial("l"); return n == 7 })
}

// TestRefusedFirst: a first version that is bad is an answer, too.
func TestRefusedFirst(t *testing.T) {
	plane := xdstest.New(t)
	bad := newPair(t, 1).secret("cert")
	bad.GetTlsCertificate().PrivateKey = nil
	plane.Set(bad, tlsListener(t, "l", named("cert", sdsOverADS, "0s")))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"))
	if n, err := k.serial("l"); err == nil {
		t.Errorf("certificate %d", n)
	}
}

// TestClusterWaitsForSecrets: a cluster warms until what it verifies hosts by has come,
// and so does what comes after clusters; without, it connects to nobody.
func TestClusterWaitsForSecrets(t *testing.T) {
	plane := xdstest.New(t)
	p := newPair(t, 5)
	c, err := tls.X509KeyPair([]byte(p.cert), []byte(p.key))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was only used here
	go answer(l)
	upstream := func(name, source, timeout string) *clusterv3.Cluster {
		c := xdstest.StaticCluster(name, "127.0.0.1", uint32(l.Addr().(*net.TCPAddr).Port))
		c.TransportSocket = message(t, &corev3.TransportSocket{}, `
name: tls
typed_config:
  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
  sni: test
  common_tls_context:
    combined_validation_context:
      default_validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: test}}]}
      validation_context_sds_secret_config: `+named("ROOT "+name, source, timeout))
		return c
	}
	route := `route_config: {name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /waits}, route: {cluster: waits}}, {match: {prefix: /}, route: {cluster: late}}]}]}` + routerFilter
	plane.Set(upstream("waits", sdsStream, "0s"), upstream("late", sdsOverADS, "0.05s"), httpListener(t, "l", route))
	k := proxyOf(t, plane, strings.Replace(fmt.Sprintf(overADS, "GRPC"), "lds_config", "cds_config: {ads: {}, initial_fetch_timeout: 0s}, lds_config", 1))
	until(t, "the one that does not wait for ever", func() bool { return k.server.Clusters.Ready("late") })
	if k.server.Clusters.Ready("waits") || k.listening("l") {
		t.Error("the cluster does not wait, or what comes after it does not")
	}
	plane.Set(p.trust("ROOT waits"))
	if got := k.get("l", "/waits"); got != "200 hello" {
		t.Error(got)
	}
	if got := k.get("l", "/late"); !strings.HasPrefix(got, "503 ") {
		t.Error(got)
	}
	if n := k.stat("cluster.late.client_ssl_socket_factory.upstream_context_secrets_not_ready"); n < 1 {
		t.Errorf("upstream_context_secrets_not_ready is %d", n)
	}
	plane.Set(p.trust("ROOT late"))
	until(t, "the other", func() bool { return k.get("l", "/late") == "200 hello" })
}

// answer answers one request for each connection.
func answer(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close() //nolint:errcheck // written
			b := make([]byte, 4096)
			if _, err := conn.Read(b); err == nil {
				_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"))
			}
		}()
	}
}

// TestSecretFiles: secrets of files, static and by SDS, follow Kubernetes' swap of a
// link and a plain rename; a pair that does not fit leaves the one before in place.
func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	mount, plain := filepath.Join(dir, "mount"), filepath.Join(dir, "plain")
	for _, d := range []string{mount, plain} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	generation := 0
	swap := func(cert, key string) {
		t.Helper()
		generation++
		to := fmt.Sprintf("..%d", generation)
		writeFiles(t, filepath.Join(mount, to), map[string]string{"tls.crt": cert, "tls.key": key})
		if err := os.Symlink(to, filepath.Join(mount, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	one := newPair(t, 1)
	swap(one.cert, one.key)
	for _, f := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink("..data/"+f, filepath.Join(mount, f)); err != nil {
			t.Fatal(err)
		}
	}
	files := func(dir string) string {
		return fmt.Sprintf("{certificate_chain: {filename: %[1]s/tls.crt}, private_key: {filename: %[1]s/tls.key}, watched_directory: {path: %[1]s}}", dir)
	}
	writeFiles(t, plain, map[string]string{
		"sds.yaml": "resources: [{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: byfile, tls_certificate: " + files(mount) + "}]\n",
		"tls.crt":  one.cert, "tls.key": one.key,
	})
	plane := xdstest.New(t)
	plane.Set(
		tlsListener(t, "static", "{name: own}"),
		tlsListener(t, "byfile", fmt.Sprintf("{name: byfile, sds_config: {path_config_source: {path: %[1]s/sds.yaml, watched_directory: {path: %[1]s}}}}", plain)),
	)
	text := strings.Replace(fmt.Sprintf(overADS, "GRPC"), "clusters: [XDS]", "clusters: [XDS], secrets: [{name: own, tls_certificate: "+files(plain)+"}]", 1)
	k := proxyOf(t, plane, text)
	k.untilSerial("static", 1)
	k.untilSerial("byfile", 1)

	for serial := int64(2); serial < 5; serial++ {
		next := newPair(t, serial)
		swap(next.cert, next.key)
		k.untilSerial("byfile", serial)
		renameFiles(t, plain, map[string]string{"tls.crt": next.cert, "tls.key": next.key})
		k.untilSerial("static", serial)
	}
	other := newPair(t, 9)
	swap(other.cert, one.key)
	until(t, "the failure", func() bool { return k.stat("sds.byfile.key_rotation_failed") >= 1 })
	k.untilSerial("byfile", 4)
	swap(other.cert, other.key)
	k.untilSerial("byfile", 9)
	renameFiles(t, plain, map[string]string{"sds.yaml": "version_info: \"2\"\nresources: [{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: byfile, tls_certificate: " + files(plain) + "}]\n"})
	k.untilSerial("byfile", 4)
	if text := k.dumpText(); !strings.Contains(text, `"static_secrets"`) || strings.Contains(text, plain+"/tls.key") {
		t.Errorf("config_dump:\n%s", text)
	}
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func renameFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	writeFiles(t, filepath.Join(dir, "..new"), files)
	for name := range files {
		if err := os.Rename(filepath.Join(dir, "..new", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSameNameOfTwoSources: what two sources call the same is not the same.
func TestSameNameOfTwoSources(t *testing.T) {
	plane, agent := xdstest.New(t), xdstest.Listen(t, "unix:"+filepath.Join(t.TempDir(), "s"))
	plane.Set(newPair(t, 1).secret("default"))
	agent.Set(newPair(t, 2).secret("default"))
	google := `{api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: [{google_grpc: {target_uri: "` + agent.Address() + `", stat_prefix: sds}}]}, resource_api_version: V3, initial_fetch_timeout: %s}`
	plane.Set(tlsListener(t, "a", named("default", sdsOverADS, "0s")), tlsListener(t, "b", named("default", google, "0s")))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"))
	k.untilSerial("a", 1)
	k.untilSerial("b", 2)
	agent.Set(newPair(t, 3).secret("default"))
	k.untilSerial("b", 3)
	k.untilSerial("a", 1)
	// One subscription for all who refer to it.
	plane.Set(tlsListener(t, "c", named("default", google, "0s")))
	k.untilSerial("c", 3)
	if _, most := agent.Streams(); most != 1 {
		t.Errorf("%d streams to the agent", most)
	}
}

// TestNoKeyOnDisk: the last known good configuration holds no secret, neither one that came
// by name nor one that stands in a listener.
func TestNoKeyOnDisk(t *testing.T) {
	dir := t.TempDir()
	plane := xdstest.New(t)
	p, q := newPair(t, 1), newPair(t, 2)
	tickets := strings.Repeat("t1cket", 20)[:80]
	own := tlsListener(t, "inline", named("cert", sdsOverADS, "0s"))
	own.FilterChains[0].TransportSocket = &corev3.TransportSocket{Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: xdstest.Pack(t, &tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{TlsCertificates: []*tlsv3.TlsCertificate{q.secret("x").GetTlsCertificate()}},
	})}}
	keyed := tlsListener(t, "tickets", named("cert", sdsOverADS, "0s"))
	keyed.FilterChains[0].TransportSocket = &corev3.TransportSocket{Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: xdstest.Pack(t, &tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{message(t, &tlsv3.SdsSecretConfig{}, named("cert", sdsOverADS, "0s"))}},
		SessionTicketKeysType: &tlsv3.DownstreamTlsContext_SessionTicketKeys{SessionTicketKeys: &tlsv3.TlsSessionTicketKeys{
			Keys: []*corev3.DataSource{inline(tickets)},
		}},
	})}}
	plane.Set(p.secret("cert"), own, keyed, tlsListener(t, "l", named("cert", sdsOverADS, "0s")))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"), func(o *xds.Options) { o.LastGood = xds.LastGood{Dir: dir, Grace: time.Hour} })
	for listener, serial := range map[string]int64{"inline": 2, "tickets": 1, "l": 1} {
		k.untilSerial(listener, serial)
	}
	path := filepath.Join(dir, "last-known-good.pb")
	until(t, "a save", func() bool { _, err := os.Stat(path); return err == nil })
	raw, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(raw, []byte("DownstreamTlsContext")) {
		t.Errorf("nothing of the listener without keys: %v", err)
	}
	for where, text := range map[string]string{"the file": string(raw), "config_dump": k.dumpText()} {
		if has := heldIn(text, p, q); has != "" {
			t.Errorf("%s is in %s", has, where)
		}
		if strings.Contains(text, tickets) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(tickets))[:60]) {
			t.Errorf("a ticket key is in %s", where)
		}
	}
}

// TestTwoHundredRotations: no request fails while the certificate is replaced two hundred
// times, and nothing is left of those before.
func TestTwoHundredRotations(t *testing.T) {
	plane := xdstest.New(t)
	plane.Set(newPair(t, 1).secret("cert"), tlsListener(t, "l", named("cert", sdsStream, "0s")))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"))
	k.untilSerial("l", 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	var once sync.Once
	end := func() { once.Do(func() { close(stop) }) }
	defer end()
	address := fmt.Sprintf("127.0.0.1:%d", k.port("l"))
	count := make([]int, 4)
	for i := range count {
		wg.Go(func() {
			var conn *tls.Conn
			for {
				select {
				case <-stop:
					if conn != nil {
						_ = conn.Close() // it was only used here
					}
					return
				default:
				}
				if conn == nil || i%2 == 0 { // half of them keep their connection throughout
					if conn != nil {
						_ = conn.Close() // the next one
					}
					c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
					if err != nil {
						t.Errorf("handshake %d: %v", count[i], err)
						return
					}
					conn = c
				}
				if err := roundTrip(conn); err != nil {
					t.Errorf("request %d: %v", count[i], err)
					return
				}
				count[i]++
			}
		})
	}
	var before []weak.Pointer[secret.Certificate]
	for serial := int64(2); serial <= 201; serial++ {
		before = append(before, k.manager.HeldCertificate("cert"))
		plane.Set(newPair(t, serial).secret("cert"))
		k.untilSerial("l", serial)
	}
	end()
	wg.Wait()
	until(t, "the end of all certificates of before", func() bool {
		runtime.GC()
		return !slices.ContainsFunc(before, func(c weak.Pointer[secret.Certificate]) bool { return c.Value() != nil })
	})
	if n := k.stat("sds.cert.update_success"); n != 201 {
		t.Errorf("update_success is %d", n)
	}
	for i, n := range count {
		if n == 0 {
			t.Errorf("client %d had no answer", i)
		}
	}
}

func roundTrip(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nhost: a\r\n\r\n")); err != nil {
		return err
	}
	b, got := make([]byte, 4096), ""
	for !strings.HasSuffix(got, "\r\n\r\nl") {
		n, err := conn.Read(b)
		if err != nil {
			return fmt.Errorf("after %q: %w", got, err)
		}
		got += string(b[:n])
	}
	return nil
}
