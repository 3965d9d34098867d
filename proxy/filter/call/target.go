package call

import (
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// HTTP is whom to ask over HTTP (envoy.config.core.v3.HttpUri).
type HTTP struct {
	Cluster         string
	Authority, Path string // of the URI
	Timeout         time.Duration
}

// GRPC is whom to ask over gRPC (envoy.config.core.v3.GrpcService).
type GRPC struct {
	Cluster    string
	Authority  string
	Timeout    time.Duration // 0 is none
	Metadata   []Metadata    // initial_metadata
	Plain      bool          // skip_envoy_headers
	MaxMessage int           // most bytes of an answer; 0: DefaultLimit
}

// Metadata is a field that goes with every call.
type Metadata struct {
	Name   string // lower case
	Value  string
	Format *accesslog.Format // in place of Value
}

// Fixed returns the metadata of a call as it is for a stream, for a call that outlives it.
// entry, which may be nil, describes the stream.
func (t *GRPC) Fixed(entry *accesslog.Entry) (out []Metadata) {
	var m header.Map
	for i := range t.Metadata {
		if v := t.Metadata[i].value(&m, entry); v != "" {
			out = append(out, Metadata{Name: t.Metadata[i].Name, Value: strings.Clone(v)})
		}
	}
	return out
}

// SplitURI returns the authority of a URI, and its path and query.
func SplitURI(uri string) (authority, path string) {
	if _, rest, ok := strings.Cut(uri, "://"); ok {
		uri = rest
	}
	if i := strings.IndexAny(uri, "/?#"); i >= 0 {
		return uri[:i], uri[i:]
	}
	return uri, "/"
}
