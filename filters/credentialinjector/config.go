package credentialinjector

import (
	"errors"
	"fmt"
	"strings"

	injectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/credential_injector/v3"
	genericv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/generic/v3"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// parse decodes envoy.extensions.filters.http.credential_injector.v3.CredentialInjector.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb injectorv3.CredentialInjector
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"overwrite", "allow_request_without_credential", "credential"}})
	if err != nil {
		return nil, err
	}
	credential, err := fromproto.Any(pb.Credential.GetTypedConfig())
	if err != nil {
		return nil, filter.At("credential.typed_config", err)
	}
	c := &Config{Overwrite: pb.Overwrite, AllowWithout: pb.AllowRequestWithoutCredential}
	switch credential.Type {
	case "envoy.extensions.http.injected_credentials.generic.v3.Generic":
		err = c.generic(credential.Value, p)
	default:
		err = fmt.Errorf("this build has no credential of the type %q", credential.Type)
	}
	return c, filter.At("credential.typed_config", err)
}

// generic reads a credential that is a secret.
func (c *Config) generic(raw []byte, p *filter.Parser) (err error) {
	var pb genericv3.Generic
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"credential", "header", "header_value_prefix"}}); err != nil {
		return err
	}
	if c.Header = match.HeaderName(pb.Header); c.Header == "" {
		c.Header = "authorization"
	}
	if !codec.IsToken(strings.TrimPrefix(c.Header, ":")) || c.Header == "host" || c.Header[0] == ':' {
		return filter.At("header", fmt.Errorf("%q cannot be set", pb.Header))
	}
	if c.Prefix = pb.HeaderValuePrefix; c.Prefix != "" && !codec.IsFieldValue("x"+c.Prefix+"x") {
		return filter.At("header_value_prefix", errors.New("is no part of the value of a header"))
	}
	if pb.Credential == nil {
		return filter.At("credential", errors.New("is required"))
	}
	c.Secret, err = fromproto.NamedGeneric(pb.Credential, p)
	return filter.At("credential", err)
}
