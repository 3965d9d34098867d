//go:build oracle

package translate_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// hashCases are policies whose choice a hash decides.
var hashCases = []struct{ name, config string }{
	{"ring", `"lb_policy": "RING_HASH"`},
	{"ring of murmur hashes", `"lb_policy": "RING_HASH", "ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2", "minimum_ring_size": 100}`},
	{"small ring", `"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1, "maximum_ring_size": 11}`},
	{"ring of host names", `"lb_policy": "RING_HASH", "common_lb_config": {"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}}`},
	{"bounded ring", `"lb_policy": "RING_HASH", "common_lb_config": {"consistent_hashing_lb_config": {"hash_balance_factor": 120}}`},
	{"ring by locality weight", `"lb_policy": "RING_HASH", "common_lb_config": {"locality_weighted_lb_config": {}}`},
	{"maglev", `"lb_policy": "MAGLEV"`},
	{"small maglev", `"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 101}`},
	{"maglev of host names", `"lb_policy": "MAGLEV", "common_lb_config": {"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}}`},
	{"maglev by locality weight", `"lb_policy": "MAGLEV", "common_lb_config": {"locality_weighted_lb_config": {}}`},
	{"typed ring", `"load_balancing_policy": {"policies": [{"typed_extension_config": {"name": "p", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash", "hash_function": "MURMUR_HASH_2", "minimum_ring_size": 64}}}]}`},
	{"typed ring of names", `"load_balancing_policy": {"policies": [{"typed_extension_config": {"name": "p", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash", "consistent_hashing_lb_config": {"use_hostname_for_hashing": true}}}}]}`},
	{"typed maglev", `"load_balancing_policy": {"policies": [{"typed_extension_config": {"name": "p", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglev", "table_size": 1009}}}]}`},
}

// TestOracleHashes: for the same hosts and the same hash Envoy and mecha choose the same
// host, over priorities, localities, weights, keys and unhealthy hosts.
func TestOracleHashes(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	endpoints := hashEndpoints(t)
	for _, tc := range hashCases {
		t.Run(tc.name, func(t *testing.T) {
			kind := "STATIC"
			if strings.Contains(tc.name, "host names") {
				kind = "STRICT_DNS"
			}
			config := fmt.Sprintf(`{"name": "c", "type": %q, "connect_timeout": "5s", "load_assignment": {"cluster_name": "c", "endpoints": %s}, %s}`, kind, endpoints, tc.config)
			url := startEnvoy(t, envoy, config)
			c := picksOf(t, config)
			for i := range 400 {
				key := fmt.Sprintf("key-%d", i)
				want := ask(t, url, key)
				h, err := c.Pick(&cluster.Attempt{Hash: match.Hash64(key, 0), HasHash: true})
				if err != nil {
					t.Fatal(err)
				}
				if h.Addr.String() != want {
					t.Fatalf("%s: mecha picks %s, Envoy %s", key, h.Addr, want)
				}
			}
		})
	}
}

// hashEndpoints starts hosts that answer with their address and returns the endpoints of
// an assignment: two priorities, the first of them half ill, two localities, unequal
// weights, names and keys.
func hashEndpoints(t *testing.T) string {
	t.Helper()
	var lists [3][]string
	for i := range 12 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().(*net.TCPAddr)
		srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, addr.String()) })}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
		health, more := "HEALTHY", ""
		switch {
		case i%4 == 1 && i < 8:
			health = "UNHEALTHY"
		case i == 6:
			health = "DEGRADED"
		case i == 0, i == 9:
			more = fmt.Sprintf(`, "metadata": {"filter_metadata": {"envoy.lb": {"hash_key": "key of %d"}}}`, i)
		}
		lists[i/4] = append(lists[i/4], fmt.Sprintf(`{"health_status": %q, "load_balancing_weight": %d, "endpoint": {"hostname": "host%d.example", "address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}}}%s}`,
			health, 1+i%3, i, addr.Port, more))
	}
	return fmt.Sprintf(`[
		{"locality": {"region": "r", "zone": "b"}, "load_balancing_weight": 3, "lb_endpoints": [%s]},
		{"locality": {"region": "r", "zone": "a"}, "load_balancing_weight": 1, "lb_endpoints": [%s]},
		{"locality": {"region": "r", "zone": "a"}, "load_balancing_weight": 1, "priority": 1, "lb_endpoints": [%s]}]`,
		strings.Join(lists[0], ","), strings.Join(lists[1], ","), strings.Join(lists[2], ","))
}

func picksOf(t *testing.T, config string) *cluster.Cluster {
	t.Helper()
	var pb clusterv3.Cluster
	if err := protojson.Unmarshal([]byte(config), &pb); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(&pb)
	if err != nil {
		t.Fatal(err)
	}
	spec, _, err := translate.Cluster(raw, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := cluster.NewManager(cluster.Options{})
	t.Cleanup(m.Close)
	if err := m.Set(spec); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); m.Cluster("c") == nil && time.Now().Before(deadline); {
		<-tick.C // numeric names take a moment, too
	}
	return m.Cluster("c")
}

// startEnvoy starts Envoy before a cluster, with the header x-hash for a hash, and returns
// its address.
func startEnvoy(t *testing.T, envoy, cluster string) string {
	t.Helper()
	dir := t.TempDir()
	config, at := filepath.Join(dir, "b.json"), filepath.Join(dir, "admin")
	text := strings.Replace(`{"node": {"id": "n", "cluster": "c"}, "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
		"static_resources": {"clusters": [CLUSTER], "listeners": [{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
		"filter_chains": [{"filters": [{"name": "hcm", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "h", "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
		"route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c", "hash_policy": [{"header": {"header_name": "x-hash"}}]}}]}]}}}]}]}]}}`,
		"CLUSTER", cluster, 1)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envoy, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "critical", "--admin-address-path", at)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		admin, err := os.ReadFile(at)
		if err != nil || len(admin) == 0 {
			continue
		}
		if addr := listensAt(string(admin)); addr != "" {
			return "http://" + addr + "/"
		}
	}
	t.Fatal("Envoy did not begin to listen")
	return ""
}

func listensAt(admin string) string {
	resp, err := http.Get("http://" + admin + "/listeners?format=json")
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	var found struct {
		Statuses []struct {
			Local struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if json.NewDecoder(resp.Body).Decode(&found) != nil || len(found.Statuses) == 0 {
		return ""
	}
	s := found.Statuses[0].Local.Socket
	return fmt.Sprintf("%s:%d", s.Address, s.Port)
}

// ask returns the host that answered.
func ask(t *testing.T, url, hash string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-hash", hash)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", hash, resp.StatusCode, err)
	}
	return string(body)
}
