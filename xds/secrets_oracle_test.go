//go:build oracle

package xds_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

const secretsBootstrap = `
node: {id: me, cluster: c}
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  lds_config: {resource_api_version: V3, ads: {}}
static_resources: {clusters: [XDS]}
`

// subject is mecha or Envoy, with a listener that waits for "cert" and one that does not
// wait for "never".
type subject struct {
	source string // of secrets
	plane  *xdstest.Server
	ports  []int
	stats  func() map[string]int64
	dump   func() string
	first  int64 // TLS contexts that it does not count: the first one, see docs/differences.md
}

// listener is the one that waits (0) or the one that does not (1). Envoy serves none at
// all while one of the first configuration waits, so the one that does not comes first.
func (s *subject) listener(t *testing.T, i int) *listenerv3.Listener {
	t.Helper()
	l := tlsListener(t, "l", named("cert", s.source, "0s"))
	if i == 1 {
		l = tlsListener(t, "late", named("never", s.source, "0.05s"))
	}
	l.Address = xdstest.SocketAddress("127.0.0.1", uint32(s.ports[i]))
	return l
}

func mechaSubject(t *testing.T, source string) *subject {
	s := &subject{source: source, plane: xdstest.New(t), ports: ports.FreeN(t, 2), first: 1}
	s.plane.Set(s.listener(t, 1))
	k := proxyOf(t, s.plane, secretsBootstrap)
	s.stats = func() map[string]int64 {
		out := map[string]int64{}
		k.stats.Each(func(m stats.Metric) {
			switch {
			case m.Counter != nil:
				out[m.Name] = int64(m.Counter.Value())
			case m.Gauge != nil:
				out[m.Name] = m.Gauge.Value()
			}
		})
		return out
	}
	s.dump = k.dumpText
	return s
}

func envoySubject(t *testing.T, source string) *subject {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	s := &subject{source: source, plane: xdstest.New(t), ports: ports.FreeN(t, 3)}
	s.plane.Set(s.listener(t, 1))
	host, port, _ := strings.Cut(s.plane.Address(), ":")
	text := strings.ReplaceAll(secretsBootstrap, "XDS", fmt.Sprintf(`{name: xds, connect_timeout: 5s, type: STATIC, typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}, load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}}`, host, port))
	text += fmt.Sprintf("admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n", s.ports[2])
	path := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envoy, "-c", path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
	cmd.Stderr = testLog{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	admin := func(path string) string {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", s.ports[2], path))
		if err != nil {
			return ""
		}
		defer resp.Body.Close() //nolint:errcheck // read
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	s.stats = func() map[string]int64 {
		out := map[string]int64{}
		for line := range strings.Lines(admin("/stats")) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				out[name] = n
			} else if u, err := strconv.ParseUint(value, 10, 64); err == nil {
				out[name] = int64(u >> 1)
			}
		}
		return out
	}
	s.dump = func() string { return admin("/config_dump") }
	return s
}

// hand shakes hands and returns the serial number, 0 for a refusal, -1 where nobody listens.
func (s *subject) hand(listener int) int64 {
	raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.ports[listener]))
	if err != nil {
		return -1
	}
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	defer conn.Close() //nolint:errcheck // it was only used here
	if conn.Handshake() != nil {
		return 0
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// secretSection is what config_dump says of secrets, without times.
func (s *subject) secretSection(t *testing.T) string {
	var all struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal([]byte(s.dump()), &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all.Configs {
		if !strings.Contains(string(c), "SecretsConfigDump") {
			continue
		}
		var d adminv3.SecretsConfigDump
		text := strings.Replace(string(c), `"@type":`, `"x":`, 1)
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		out := ""
		for kind, list := range map[string][]*adminv3.SecretsConfigDump_DynamicSecret{"active": d.DynamicActiveSecrets, "warming": d.DynamicWarmingSecrets} {
			for _, x := range list {
				var sec tlsv3.Secret
				if err := x.Secret.UnmarshalTo(&sec); err != nil {
					t.Fatal(err)
				}
				out += fmt.Sprintf("%s %s %s key=%q dated=%t; ", kind, x.Name, strings.TrimRight(x.VersionInfo, "0123456789."),
					sec.GetTlsCertificate().GetPrivateKey().GetInlineBytes(), x.LastUpdated != nil)
			}
		}
		parts := strings.Split(out, "; ")
		slices.Sort(parts)
		return strings.Join(parts, "; ")
	}
	return "none"
}

// story tells what a subject does, step by step.
func (s *subject) story(t *testing.T) (story []string) {
	say := func(format string, args ...any) { story = append(story, fmt.Sprintf(format, args...)) }
	until(t, "the end of the short wait", func() bool { return s.hand(1) == 0 })
	s.plane.Set(s.listener(t, 0))
	until(t, "the question for the other", func() bool {
		n, asked := s.stats()["sds.cert.update_success"] // that there is none is an update of delta
		return asked && (n > 0 || s.source != sdsDelta)
	})
	say("at first: %d, %d", s.hand(0), s.hand(1))
	say("dump: %s", s.secretSection(t))
	one, two := newPair(t, 1), newPair(t, 2)
	s.plane.Set(one.secret("cert"))
	until(t, "the first certificate", func() bool { return s.hand(0) == 1 })
	s.plane.Set(two.secret("cert"))
	until(t, "the second certificate", func() bool { return s.hand(0) == 2 })
	say("dump: %s", s.secretSection(t))
	bad := one.secret("cert")
	bad.GetTlsCertificate().PrivateKey = inline(two.key)
	s.plane.Set(bad)
	s.plane.Await("the refusal", func(r xdstest.Request) bool { return r.TypeURL == ads.SecretType && r.Error != "" })
	say("after a bad one: %d", s.hand(0))
	attempts := s.stats()["sds.cert.update_attempt"]
	s.plane.Set(two.trust("cert"))
	until(t, "the other kind", func() bool { return s.stats()["sds.cert.update_attempt"] > attempts })
	say("after another kind: %d", s.hand(0))
	s.plane.Remove(ads.SecretType, "cert")
	s.plane.Set(newPair(t, 4).secret("never"))
	until(t, "an update after the removal", func() bool { return s.hand(1) == 4 })
	say("after the removal: %d", s.hand(0))
	s.plane.Kill()
	say("without the server: %d", s.hand(0))
	st := s.stats()
	for _, name := range []string{"update_success", "update_rejected", "init_fetch_timeout", "key_rotation_failed"} {
		say("%s: %d and %d", name, st["sds.cert."+name], st["sds.never."+name])
	}
	port := strconv.Itoa(s.ports[1])
	notReady := st["listener.127.0.0.1_"+port+".server_ssl_socket_factory.downstream_context_secrets_not_ready"]
	say("refused for want of a secret: %t", notReady >= 2)
	for i, name := range []string{"cert", "never"} {
		prefix := "listener.127.0.0.1_" + strconv.Itoa(s.ports[i]) + "."
		var counted []string
		for _, n := range slices.Sorted(maps.Keys(st)) {
			if rest, ok := strings.CutPrefix(n, prefix); ok && strings.HasPrefix(rest, "ssl.") && !strings.HasPrefix(rest, "ssl.certificate.") && st[n] > 0 {
				counted = append(counted, rest)
			}
		}
		say("%s: new contexts: %d, counted: %v", name, s.first+st[prefix+"server_ssl_socket_factory.ssl_context_update_by_sds"], counted)
	}
	var names []string
	for _, n := range slices.Sorted(maps.Keys(st)) {
		if rest, ok := strings.CutPrefix(n, "sds.cert."); ok && !strings.HasPrefix(rest, "control_plane.") {
			names = append(names, rest)
		}
	}
	say("statistics: %v", names)
	return story
}

// TestOracleSecrets: warming, rotation, refusals, removal, statistics and config_dump of
// secrets that come over a stream of their own.
func TestOracleSecrets(t *testing.T) {
	for name, source := range map[string]string{"state of the world": sdsStream, "delta": sdsDelta} {
		t.Run(name, func(t *testing.T) {
			want := envoySubject(t, source).story(t)
			got := mechaSubject(t, source).story(t)
			for i := range max(len(want), len(got)) {
				w, g := "", ""
				if i < len(want) {
					w = want[i]
				}
				if i < len(got) {
					g = got[i]
				}
				if w != g {
					t.Errorf("step %d:\nEnvoy %s\nmecha %s", i, w, g)
				}
			}
			if t.Failed() {
				t.Logf("Envoy's story:\n%s", strings.Join(want, "\n"))
			}
		})
	}
}
