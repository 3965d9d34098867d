package filter

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// HTTP is an HTTP filter: one value serves one stream at a time and is used again
// for the next one after Reset. It implements those of the hooks below that it
// needs, and at least one of them.
//
// Hooks of one stream never run at the same time. A hook may block; what else the
// stream does waits for it. It returns nil to hand the part on, a *Reply to answer
// the stream here and now, any other error to reset it (see Error).
type HTTP interface {
	// Reset clears what belonged to one stream.
	Reset()
}

// The hooks of an HTTP filter. Buffers and header maps are lent for the call.
type (
	// RequestHeaders sees the request head; end tells that no body follows.
	RequestHeaders interface {
		OnRequestHeaders(s *Stream, end bool) error
	}
	// RequestData sees each piece of the request body and may change it. With the end it may
	// put fields into s.RequestTrailers, which then follow.
	RequestData interface {
		OnRequestData(s *Stream, b *buffer.Buf, end bool) error
	}
	// RequestTrailers sees the request trailers, in s.RequestTrailers. See also
	// Engine.BeforeTrailers.
	RequestTrailers interface{ OnRequestTrailers(s *Stream) error }
	// ResponseHeaders sees the response head, s.Response. The filters are called in
	// reverse order for responses.
	ResponseHeaders interface {
		OnResponseHeaders(s *Stream, end bool) error
	}
	// ResponseData sees each piece of the response body and may change it. With the end it
	// may put fields into s.ResponseTrailers, which then follow.
	ResponseData interface {
		OnResponseData(s *Stream, b *buffer.Buf, end bool) error
	}
	// ResponseTrailers sees the response trailers, in s.ResponseTrailers.
	ResponseTrailers interface{ OnResponseTrailers(s *Stream) error }
	// Done is called once for each stream, after everything else.
	Done interface{ OnDone(s *Stream) }
)

// Choosy is a filter with ResponseData that does not need the body of every response. It
// is asked before the kernel moves a body; it may be shown one all the same.
type Choosy interface{ WantsResponseData() bool }

// Terminal is the filter that ends an HTTP chain: the router, or one that answers
// everything itself.
type Terminal interface {
	HTTP
	// ServeStream is called after all request-header hooks. It answers with the
	// methods of s.Engine, or returns a *Reply or an error as the hooks do.
	ServeStream(s *Stream) error
}
