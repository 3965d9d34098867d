package bootstrap

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestDocumentsKeepLineAndPath(t *testing.T) {
	docs, err := Documents(Source{Name: "x.yaml", Data: []byte(`# comment
name: first
---
resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: second
- name: third
  conect_timeout: 1s
---
# nothing
`)})
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 3 || !docs[2].Empty() || docs[1].Line() != 4 {
		t.Fatalf("%d documents, third empty %v, second on line %d", len(docs), docs[2].Empty(), docs[1].Line())
	}
	if keys := docs[0].Keys(); len(keys) != 1 || keys[0] != "name" {
		t.Errorf("keys %v", keys)
	}
	list, ok := docs[1].Get("resources")
	if !ok {
		t.Fatal("no resources")
	}
	items, ok := list.Items()
	if !ok || len(items) != 2 {
		t.Fatalf("items %v", items)
	}
	var body anypb.Any
	var c clusterv3.Cluster
	if _, err := items[0].Decode(&body, Options{}); err != nil || body.UnmarshalTo(&c) != nil || c.GetName() != "second" {
		t.Errorf("typed item: %v %v", err, &body)
	}
	_, err = items[1].Decode(&c, Options{})
	if err == nil || !strings.HasPrefix(err.Error(), "x.yaml:8: resources[1].conect_timeout: ") {
		t.Errorf("error %v, want file, line and path from the root of the document", err)
	}
}
