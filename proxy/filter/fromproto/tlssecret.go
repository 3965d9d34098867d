package fromproto

import (
	"errors"
	"fmt"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// namedSecret asks the parser for a secret by name; ask is a method of filter.Secrets.
func namedSecret[T any](pb *tlsv3.SdsSecretConfig, p *filter.Parser,
	ask func(filter.Secrets, string, *filter.ConfigSource) (secret.Source[T], error),
) (secret.Source[T], error) {
	switch {
	case pb.GetName() == "":
		return nil, filter.At("name", errors.New("must not be empty"))
	case p.Secrets == nil:
		return nil, fmt.Errorf("secret %q: this build does not support secrets by name (SDS) here", pb.Name)
	}
	if err := ResourceName(pb.Name); err != nil {
		return nil, filter.At("name", err)
	}
	if pb.SdsConfig == nil {
		s, err := ask(p.Secrets, pb.Name, nil)
		return s, filter.At("name", err)
	}
	from, err := ConfigSource(pb.SdsConfig)
	if err != nil {
		return nil, filter.At("sds_config", err)
	}
	return ask(p.Secrets, pb.Name, &from)
}

// NamedCertificate returns the certificate that an SdsSecretConfig refers to.
func NamedCertificate(pb *tlsv3.SdsSecretConfig, p *filter.Parser) (secret.Source[secret.Certificate], error) {
	return namedSecret(pb, p, filter.Secrets.Certificate)
}

// NamedValidation is NamedCertificate for a validation context.
func NamedValidation(pb *tlsv3.SdsSecretConfig, p *filter.Parser) (secret.Source[secret.Validation], error) {
	return namedSecret(pb, p, filter.Secrets.Validation)
}

// NamedTicketKeys is NamedCertificate for session ticket keys.
func NamedTicketKeys(pb *tlsv3.SdsSecretConfig, p *filter.Parser) (secret.Source[secret.TicketKeys], error) {
	return namedSecret(pb, p, filter.Secrets.TicketKeys)
}

// NamedGeneric is NamedCertificate for a generic secret.
func NamedGeneric(pb *tlsv3.SdsSecretConfig, p *filter.Parser) (secret.Source[secret.Generic], error) {
	return namedSecret(pb, p, filter.Secrets.Generic)
}
