package translate

import (
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// described is a message with metadata.
type described interface {
	proto.Message
	GetMetadata() *corev3.Metadata
}

// kept reads the metadata of a resource when a log asks for it first, which few do: the
// bytes of resources are kept anyway, for config_dump, and maps are many times as large.
func kept(raw []byte, empty described) func() meta.Fields {
	return sync.OnceValue(func() meta.Fields {
		if proto.Unmarshal(raw, empty) != nil {
			return nil // it was read before: does not happen
		}
		return fromproto.FilterMetadata(empty.GetMetadata())
	})
}
