// Package secret is what TLS needs to be told in confidence, as plain values:
// certificates with their keys, what to trust, keys of session tickets. Values are
// immutable; a Source hands out the newest. Nothing that prints, formats or serialises
// a value shows a key.
//
// Where secrets come from (files, SDS) is not here, and what handshakes make of them
// is in package transport.
package secret

// Source is a secret that may be replaced while it is in use. It is safe for
// concurrent use.
type Source[T any] interface {
	// Current returns the newest value, nil before there is one. It neither blocks nor
	// allocates: a handshake asks for it.
	Current() *T
}

// Static returns a Source whose value never changes; it is lent v for good.
func Static[T any](v *T) Source[T] { return static[T]{v} }

type static[T any] struct{ v *T }

func (s static[T]) Current() *T { return s.v }
