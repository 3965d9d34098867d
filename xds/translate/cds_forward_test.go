package translate

import (
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/cluster"
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
	for text, want := range map[string]string{
		extensionJSON("aggregate", ""):                                                                      "cluster_type.typed_config.clusters",
		extensionJSON("aggregate", `, "clusters": ["a", "c"]`):                                              "clusters[1]",
		extensionJSON("dynamic_forward_proxy", ""):                                                          "dns_cache_config",
		extensionJSON("dynamic_forward_proxy", `, "sub_clusters_config": {}`):                               "sub_clusters_config",
		strings.Replace(extensionJSON("aggregate", `, "clusters": ["a"]`), "CLUSTER_PROVIDED", "RANDOM", 1): "lb_policy",
	} {
		if _, _, err := clusterOf(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
