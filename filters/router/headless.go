package router

import (
	"errors"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// headless is what streams have in common that are no exchange of messages: bodies only,
// no heads, no trailers.
type headless struct{ read, written int64 }

var errNoHead = errors.New("router: what is no HTTP has no heads")

// ReadHeaders implements codec.Stream.
func (h *headless) ReadHeaders(*header.Map) (codec.Next, error) { return 0, errNoHead }

// ReadTrailers implements codec.Stream.
func (h *headless) ReadTrailers(*header.Map) error { return errNoHead }

// WriteHeaders implements codec.Stream.
func (h *headless) WriteHeaders(*header.Map, bool) error { return errNoHead }

// Flush implements codec.Stream: nothing is ever held back.
func (h *headless) Flush() error { return nil }

// Upgraded implements codec.Stream.
func (h *headless) Upgraded() bool { return false }

// Raw implements codec.Stream.
func (h *headless) Raw() (codec.RawStream, bool) { return nil, false }

// Protocol implements codec.Stream.
func (h *headless) Protocol() meta.Protocol { return meta.Unknown }

// WireBytes implements codec.Stream.
func (h *headless) WireBytes() (read, written codec.Wire) {
	return codec.Wire{Body: h.read}, codec.Wire{Body: h.written}
}
