package apikeyauth

import (
	"crypto/rand"
	"errors"
	"fmt"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/api_key_auth/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// parse decodes envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb authv3.ApiKeyAuth
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"credentials", "key_sources", "forwarding"}})
	if err != nil {
		return nil, err
	}
	return convert(pb.Credentials, pb.KeySources, pb.Forwarding)
}

// parseRoute decodes envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb authv3.ApiKeyAuthPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"credentials", "key_sources", "forwarding", "allowed_clients"}})
	if err != nil {
		return nil, err
	}
	c, err := convert(pb.Credentials, pb.KeySources, pb.Forwarding)
	if err != nil {
		return nil, err
	}
	for _, client := range pb.AllowedClients {
		if c.Allowed == nil {
			c.Allowed = map[string]bool{}
		}
		c.Allowed[client] = true
	}
	return c, nil
}

// convert converts what both messages have. No error names a key.
func convert(list []*authv3.Credential, sources []*authv3.KeySource, f *authv3.Forwarding) (c *Config, err error) {
	c = &Config{}
	for i, pb := range list {
		if c.Credentials == nil {
			c.Credentials = &credentials{clients: map[digest]string{}}
			_, _ = rand.Read(c.Credentials.salt[:]) // it never fails
		}
		if len(pb.Key) > maxKey {
			return nil, filter.AtIndex("credentials", i, filter.At("key", fmt.Errorf("is longer than %d bytes", maxKey)))
		}
		d := c.Credentials.digest(nil, pb.Key)
		if _, twice := c.Credentials.clients[d]; twice {
			return nil, filter.AtIndex("credentials", i, filter.At("key", errors.New("is that of an earlier client, too")))
		}
		c.Credentials.clients[d] = pb.Client
	}
	for i, pb := range sources {
		s := Source{Query: pb.Query, Cookie: pb.Cookie}
		if pb.Header != "" {
			s.Header = match.HeaderName(pb.Header)
		}
		if s == (Source{}) {
			return nil, filter.AtIndex("key_sources", i, errors.New("one of header, query, cookie must be set"))
		}
		c.Sources = append(c.Sources, s)
	}
	if f != nil {
		c.Forward = &Forwarding{Hide: f.HideCredentials}
		if f.Header != "" {
			c.Forward.Header = match.HeaderName(f.Header)
		}
	}
	return c, nil
}
