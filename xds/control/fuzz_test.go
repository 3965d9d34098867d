package control

import (
	"testing"

	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// Nothing a file can hold makes the server panic, and what is accepted has a name, a
// type that can be served, and no double.
func FuzzReadFile(f *testing.F) {
	f.Add([]byte(staticCluster("a") + "---\n" + routes("a")))
	f.Add([]byte("resources:\n- {\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: c}\n"))
	f.Add([]byte(`[{"name":"l","address":{"pipe":{"path":"/l"}}}]`))
	f.Add([]byte("static_resources: {clusters: [{name: c, type: STATIC}]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		resources, _, err := readFile(bootstrap.Source{Name: "x", Data: data})
		if err != nil {
			return
		}
		s := Set{}
		for _, r := range resources {
			if _, dup := s[r.key()]; dup || r.Name == "" {
				t.Errorf("accepted %q (double %v)", r.Name, dup)
			}
			if _, _, ok := kindOf(r.TypeURL); !ok {
				t.Errorf("accepted type %q", r.TypeURL)
			}
			s[r.key()] = r
		}
		check(s)
		if got := changes(s, s); got != nil {
			t.Errorf("a set differs from itself: %v", got)
		}
		changes(Set{}, s)
		if _, err := snapshot(s); err != nil {
			t.Error(err)
		}
	})
}
