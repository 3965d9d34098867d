package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// scaleFiles serves the clusters from files.
type scaleFiles struct {
	dir string
	n   int
}

func newScaleFiles(dir string, n, port int) (*scaleFiles, error) {
	s := &scaleFiles{dir, n}
	from := fmt.Sprintf("path_config_source: {path: %q}", filepath.Join(dir, "routes", "rds.json"))
	if err := os.Mkdir(filepath.Join(dir, "routes"), 0o755); err != nil {
		return nil, err
	}
	listener, err := scaleListener(port, from)
	if err != nil {
		return nil, err
	}
	if err := s.write("routes/rds.json", scaleRoutes(n)); err != nil {
		return nil, err
	}
	if err := s.write("lds.json", listener); err != nil {
		return nil, err
	}
	return s, s.change(-1)
}

func (s *scaleFiles) close() {}

// change gives the endpoint of cluster i another port.
func (s *scaleFiles) change(i int) error {
	list := make([]proto.Message, s.n)
	for j := range s.n {
		list[j] = scaleCluster(j, scalePort(j == i))
	}
	return s.write("cds.json", list...)
}

// write replaces a file by a DiscoveryResponse.
func (s *scaleFiles) write(name string, resources ...proto.Message) error {
	out := struct {
		Version   string            `json:"version_info"`
		Resources []json.RawMessage `json:"resources"`
	}{Version: "1"}
	for _, r := range resources {
		a, err := packed(r)
		if err != nil {
			return err
		}
		text, err := protojson.Marshal(a)
		if err != nil {
			return err
		}
		out.Resources = append(out.Resources, text)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".tmp", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (s *scaleFiles) bootstrap(admin int) string {
	return fmt.Sprintf(`
node: {id: bench, cluster: bench}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
dynamic_resources:
  cds_config: {path_config_source: {path: %q}}
  lds_config: {path_config_source: {path: %q}}
`, admin, filepath.Join(s.dir, "cds.json"), filepath.Join(s.dir, "lds.json"))
}
