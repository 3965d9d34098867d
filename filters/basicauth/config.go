package basicauth

import (
	"crypto/sha1" //nolint:gosec // the format of the configuration
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/basic_auth/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.basic_auth.v3.BasicAuth.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb authv3.BasicAuth
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"users", "forward_username_header", "authentication_header", "allow_missing", "emit_dynamic_metadata", "realm",
	}})
	if err != nil {
		return nil, err
	}
	if pb.AllowMissing && !pb.EmitDynamicMetadata {
		return nil, filter.At("allow_missing", errors.New("needs emit_dynamic_metadata: somebody has to tell who was let through"))
	}
	c := &Config{
		Realm: pb.Realm, Header: "authorization", Forward: strings.ToLower(pb.ForwardUsernameHeader),
		AllowMissing: pb.AllowMissing, Emit: pb.EmitDynamicMetadata,
	}
	if pb.AuthenticationHeader != "" {
		c.Header = strings.ToLower(pb.AuthenticationHeader)
	}
	c.Users, err = users(pb.Users)
	return c, filter.At("users", err)
}

// parseRoute decodes envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb authv3.BasicAuthPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"users", "realm"}}); err != nil {
		return nil, err
	}
	u, err := users(pb.Users)
	return &Config{Users: u, Realm: pb.Realm}, filter.At("users", err)
}

// maxUsers is how long the list of users may be.
const maxUsers = 4 << 20

// users reads lines of NAME:{SHA}DIGEST, as htpasswd -s writes them. No error names a
// digest.
func users(pb *corev3.DataSource) (map[string]*user, error) {
	text, err := fromproto.Bytes(pb, maxUsers)
	if err != nil {
		return nil, err
	}
	out := map[string]*user{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		encoded, sha := strings.CutPrefix(hash, "{SHA}")
		sum, err := base64.StdEncoding.DecodeString(encoded)
		_, twice := out[name]
		switch {
		case !ok || name == "" || hash == "":
			return nil, fmt.Errorf("line %d: is not NAME:{SHA}DIGEST", n)
		case !sha:
			return nil, fmt.Errorf("line %d: the password of %q is in a format other than {SHA}", n, name)
		case err != nil || len(sum) != sha1.Size:
			return nil, fmt.Errorf("line %d: the digest of %q is not one of SHA-1", n, name)
		case twice:
			return nil, fmt.Errorf("line %d: %q is there twice", n, name)
		}
		out[name] = &user{name, name, digest(sum)}
	}
	return out, nil
}
