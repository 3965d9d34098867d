package secret

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
)

// hidden is what secrets print as.
const hidden = "[redacted]"

// ticketKeySize is the size that the API prescribes for one key.
const ticketKeySize = 80

// TicketKeys protect stateless session tickets (TlsSessionTicketKeys): the first one
// makes tickets, all of them open them.
type TicketKeys struct{ keys func() [][32]byte } // a function, as in Certificate

// NewTicketKeys takes keys of 80 bytes each, and copies what it needs of them.
func NewTicketKeys(keys [][]byte) (*TicketKeys, error) {
	if len(keys) == 0 {
		return nil, errors.New("secret: no session ticket key")
	}
	out := make([][32]byte, 0, len(keys))
	for i, k := range keys {
		if len(k) != ticketKeySize {
			return nil, fmt.Errorf("secret: session ticket key %d has %d bytes, not %d", i, len(k), ticketKeySize)
		}
		out = append(out, sha256.Sum256(k))
	}
	return &TicketKeys{func() [][32]byte { return out }}, nil
}

// Keys returns the keys in the form that package crypto/tls takes: made from the whole
// of each, so that equal configuration gives equal keys on every proxy. They are not to be
// printed.
func (k TicketKeys) Keys() [][32]byte { return k.keys() }

func (k TicketKeys) String() string { return hidden }

// Format implements fmt.Formatter.
func (k TicketKeys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) } // f is memory

// MarshalJSON implements json.Marshaler.
func (k TicketKeys) MarshalJSON() ([]byte, error) { return quoted(hidden), nil }

// LogValue implements slog.LogValuer.
func (k TicketKeys) LogValue() slog.Value { return slog.StringValue(hidden) }

// Generic is bytes whose meaning their user knows (GenericSecret).
type Generic struct {
	secret func() []byte
	named  func(string) []byte
}

// NewGeneric is lent secret and named for good; each may be nil.
func NewGeneric(secret []byte, named map[string][]byte) *Generic {
	return &Generic{func() []byte { return secret }, func(name string) []byte { return named[name] }}
}

// Secret returns the secret, lent.
func (g Generic) Secret() []byte { return g.secret() }

// Named returns one of the secrets that have names, lent; nil if there is none.
func (g Generic) Named(name string) []byte { return g.named(name) }

func (g Generic) String() string { return hidden }

// Format implements fmt.Formatter.
func (g Generic) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) } // f is memory

// MarshalJSON implements json.Marshaler.
func (g Generic) MarshalJSON() ([]byte, error) { return quoted(hidden), nil }

// LogValue implements slog.LogValuer.
func (g Generic) LogValue() slog.Value { return slog.StringValue(hidden) }
