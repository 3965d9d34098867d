package translate

import (
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
)

func extensionJSON(typ, fields string) string {
	return `{"name": "c", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {"name": "x", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.clusters.` +
		typ + `.v3.ClusterConfig"` + fields + `}}}`
}

func TestExtensionClusters(t *testing.T) {
	s, _, err := clusterOf(t, extensionJSON("aggregate", `, "clusters": ["a", "b"]`))
	if err != nil || s.Type != cluster.Aggregate || strings.Join(s.Clusters, " ") != "a b" {
		t.Errorf("%+v, %v", s, err)
	}
	s, _, err = clusterOf(t, extensionJSON("dynamic_forward_proxy", `, "dns_cache_config": {"name": "n", "dns_lookup_family": "V4_ONLY"}`))
	if err != nil || s.Type != cluster.DynamicForward || s.Forward.Cache.Name != "n" || s.Forward.Family != cluster.V4Only {
		t.Errorf("%+v, %v", s, err)
	}
	if !s.HTTP.Auto.SNI || !s.HTTP.Auto.SAN {
		t.Error("whoever answers is not held against the name that was asked for")
	}
	s, _, err = clusterOf(t, extensionJSON("dynamic_forward_proxy", `, "sub_clusters_config": {"lb_policy": "RANDOM", "max_sub_clusters": 3, "preresolve_clusters": [{"address": "A.test", "port_value": 443}],
		"dns_cluster_config": {"dns_lookup_family": "V4_ONLY", "all_addresses_in_single_endpoint": true}}`))
	if err != nil || s.Type != cluster.DynamicForward || s.Sub.Max != 3 || s.Sub.TTL != 5*time.Minute || s.Sub.Policy.Kind != cluster.Random ||
		s.Sub.Preresolve[0] != (dnscache.Key{Host: "a.test", Port: 443}) || s.Sub.DNS.Family != cluster.V4Only || !s.Sub.Logical {
		t.Errorf("%+v, %v", s, err)
	}
	for text, want := range map[string]string{
		extensionJSON("aggregate", ""):                                                                                                                                                        "cluster_type.typed_config.clusters",
		extensionJSON("aggregate", `, "clusters": ["a", "c"]`):                                                                                                                                "clusters[1]",
		extensionJSON("dynamic_forward_proxy", ""):                                                                                                                                            "dns_cache_config",
		extensionJSON("dynamic_forward_proxy", `, "sub_clusters_config": {"max_sub_clusters": 0}`):                                                                                            "sub_clusters_config.max_sub_clusters",
		extensionJSON("dynamic_forward_proxy", `, "sub_clusters_config": {"lb_policy": "CLUSTER_PROVIDED"}`):                                                                                  "sub_clusters_config.lb_policy",
		extensionJSON("dynamic_forward_proxy", `, "sub_clusters_config": {"sub_cluster_ttl": "0s"}`):                                                                                          "sub_clusters_config.sub_cluster_ttl",
		extensionJSON("dynamic_forward_proxy", `, "sub_clusters_config": {"preresolve_clusters": [{"address": "a"}]}`):                                                                        "sub_clusters_config.preresolve_clusters[0]",
		extensionJSON("dynamic_forward_proxy", `, "sub_clusters_config": {"dns_cluster_config": {"dns_min_refresh_rate": "0.1s"}}`):                                                           "sub_clusters_config.dns_cluster_config.dns_min_refresh_rate",
		strings.Replace(extensionJSON("dynamic_forward_proxy", `, "dns_cache_config": {"name": "n"}`), `"lb_policy"`, `"upstream_http_protocol_options": {"auto_sni": true}, "lb_policy"`, 1): "upstream_http_protocol_options",
		strings.Replace(extensionJSON("aggregate", `, "clusters": ["a"]`), "CLUSTER_PROVIDED", "RANDOM", 1):                                                                                   "lb_policy",
	} {
		if _, _, err := clusterOf(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
