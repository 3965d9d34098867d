package filter

import "github.com/mecha-mesh/mecha/proxy/secret"

// Secrets are where transport sockets get secrets by name (SdsSecretConfig). It serves
// the parsing of one resource, like the Parser that has it, so that whoever made it knows
// what the resource refers to and can wait for it. A name that is asked for twice from
// one place gives the same Source; Sources of a resource that has gone may stop changing.
type Secrets interface {
	// Certificate, Validation, TicketKeys and Generic return the secret of that name, which
	// may not have come yet. A nil from is a static secret of the bootstrap; one that does
	// not exist, or is of another kind, is an error.
	Certificate(name string, from *ConfigSource) (secret.Source[secret.Certificate], error)
	Validation(name string, from *ConfigSource) (secret.Source[secret.Validation], error)
	TicketKeys(name string, from *ConfigSource) (secret.Source[secret.TicketKeys], error)
	Generic(name string, from *ConfigSource) (secret.Source[secret.Generic], error)
}
