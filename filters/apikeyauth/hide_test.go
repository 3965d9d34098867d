package apikeyauth

import (
	"fmt"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/api_key_auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// TestHideQuery: what is not the key stays as it was sent.
func TestHideQuery(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"/", "/"},
		{"/?key=1", "/"},
		{"/?%6bey=1&a", "/?a"},
		{"/?z=%20+&key=1&a&key=2&z=", "/?z=%20+&a&z="},
		{"/?", "/?"},
	} {
		var m header.Map
		m.SetID(header.Path, c.path)
		hideQuery(&m, "key")
		if got := m.Value(header.Path); got != c.want {
			t.Errorf("%s becomes %s, want %s", c.path, got, c.want)
		}
	}
}

// TestKeysAreNotKept: neither errors nor the configuration show a key.
func TestKeysAreNotKept(t *testing.T) {
	const secret = "s3cret-key"
	one := &authv3.Credential{Key: secret, Client: "one"}
	source := []*authv3.KeySource{{Header: "x"}}
	for _, pb := range []*authv3.ApiKeyAuth{
		{Credentials: []*authv3.Credential{one}, KeySources: source},
		{Credentials: []*authv3.Credential{one, one}, KeySources: source},
	} {
		raw, err := proto.Marshal(pb)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parse(raw, nil)
		text := fmt.Sprintf("%v", err)
		if c != nil {
			text += fmt.Sprintf("%+v %+v", c, c.Credentials)
		}
		if strings.Contains(text, secret) {
			t.Errorf("the key is in %s", text)
		}
	}
}
