package dialogue

import (
	"fmt"
	"maps"
	"slices"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// Secrets that every configuration may refer to by name; a case adds its own ("secrets").
var usualSecrets = map[string]string{"token-secret": "s3cr+t", "hmac-secret": "a key for HMACs"}

// secretsOf are the generic secrets of a bootstrap.
func secretsOf(values map[string]string) (out []any) {
	all := maps.Clone(usualSecrets)
	maps.Copy(all, values)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, object{"name": name, "generic_secret": object{"secret": object{"inline_string": all[name]}}})
	}
	return out
}

// Secrets are generic secrets by name, of a bootstrap that is not loaded by package xds.
type Secrets map[string]*secret.Generic

// UsualSecrets are those that every configuration may refer to.
func UsualSecrets() Secrets {
	s := Secrets{}
	for name, text := range usualSecrets {
		s[name] = secret.NewGeneric([]byte(text), nil)
	}
	return s
}

func readSecrets(list []*tlsv3.Secret) (Secrets, error) {
	s := Secrets{}
	for _, pb := range list {
		g, err := fromproto.GenericSecret(pb.GetGenericSecret())
		if err != nil {
			return nil, err
		}
		s[pb.Name] = g
	}
	return s, nil
}

// Generic implements filter.Secrets. The secret of a name is the same wherever it comes from.
func (s Secrets) Generic(name string, _ *filter.ConfigSource) (secret.Source[secret.Generic], error) {
	if g := s[name]; g != nil {
		return secret.Static(g), nil
	}
	return nil, fmt.Errorf("there is no secret %q", name)
}

// Certificate implements filter.Secrets.
func (s Secrets) Certificate(name string, _ *filter.ConfigSource) (secret.Source[secret.Certificate], error) {
	return nil, fmt.Errorf("there is no certificate %q", name)
}

// Validation implements filter.Secrets.
func (s Secrets) Validation(name string, _ *filter.ConfigSource) (secret.Source[secret.Validation], error) {
	return nil, fmt.Errorf("there is no validation context %q", name)
}

// TicketKeys implements filter.Secrets.
func (s Secrets) TicketKeys(name string, _ *filter.ConfigSource) (secret.Source[secret.TicketKeys], error) {
	return nil, fmt.Errorf("there are no ticket keys %q", name)
}
