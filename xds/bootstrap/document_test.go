package bootstrap

import (
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// TestDocuments reads a file of several resources the way a folder source does,
// and reports a mistake at its own line and path.
func TestDocuments(t *testing.T) {
	const text = `resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: a
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: 5
---
# nothing
---
name: c
`
	docs, err := Documents(Source{Name: "f.yaml", Data: []byte(text)})
	if err != nil || len(docs) != 3 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	if !docs[1].Empty() || !slices.Equal(docs[2].Keys(), []string{"name"}) || docs[2].Line() != 9 {
		t.Errorf("documents %v", docs)
	}
	list, ok := docs[0].Get("resources")
	items, isList := list.Items()
	if !ok || !isList || len(items) != 2 {
		t.Fatalf("items %v", items)
	}
	var a anypb.Any
	c := new(clusterv3.Cluster)
	if _, err := items[0].Decode(&a, Options{}); err != nil || a.UnmarshalTo(c) != nil || c.GetName() != "a" {
		t.Errorf("%v %v", c, err)
	}
	_, err = items[1].Decode(&a, Options{})
	if want := `f.yaml:5: resources[1].name: expected string, got number 5 (write it as "5")`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := items[1].Problem("is not wanted"); err.Error() != "f.yaml:4: resources[1]: is not wanted" {
		t.Errorf("got %v", err)
	}
	if _, err := docs[2].Decode(c, Options{}); err != nil || c.GetName() != "c" {
		t.Errorf("%v %v", c, err)
	}
}

func TestFingerprintsTellValuesApart(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, text := range []string{`{}`, `[]`, `""`, `"1"`, `1`, `{a: 1}`, `{a: "1"}`, `{a: [1]}`, `{a: {}}`, `{b: 1}`, `{a: 1, b: 1}`, `[a, b]`, `[ab]`, `[[a], b]`, `[[a, b]]`} {
		docs, err := Documents(Source{Name: "t", Data: []byte(text), Format: FormatYAML})
		if err != nil {
			t.Fatal(err)
		}
		fp := docs[0].Fingerprint()
		if other, ok := seen[fp]; ok {
			t.Errorf("%s and %s have the same", text, other)
		}
		seen[fp] = text
		docs, err = Documents(Source{Name: "u", Data: []byte("\n\n" + text), Format: FormatYAML})
		if err != nil || docs[0].Fingerprint() != fp {
			t.Errorf("%s has another one on another line (%v)", text, err)
		}
	}
}
