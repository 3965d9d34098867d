package filter

import (
	"fmt"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Reply is a local reply: the proxy's own answer to a stream. It may be a package
// variable, so that returning it allocates nothing; it is never changed.
type Reply struct {
	Code    int
	Header  []header.Field // set in the response; of Set-Cookie, each
	Body    string         // text/plain unless Header says otherwise
	Details string         // response_code_details
	Flags   meta.Flag
	GRPC    int // grpc-status for gRPC requests; 0: the one that goes with Code
	// Verbatim keeps local_reply_config and the form of gRPC off it: it is somebody's response.
	Verbatim bool
	// Modify, if not nil, completes the response head in s.Response before the response
	// hooks see it.
	Modify func(s *Stream)
}

func (r *Reply) Error() string { return fmt.Sprintf("local reply %d (%s)", r.Code, r.Details) }

// Source is whose fault an Error is.
type Source uint8

// The sources.
const (
	Internal Source = iota
	Downstream
	Upstream
)

// Retry is whether what failed may be tried again.
type Retry uint8

// The answers.
const (
	Never    Retry = iota
	IfReused       // only if the connection had been used before
	Always
)

// Error resets a stream. Err may be nil.
type Error struct {
	Source Source
	Retry  Retry
	Flag   meta.Flag
	Code   int    // answered if no response has begun; 0 closes the stream without one
	Body   string // of that answer
	Text   string // details
	Err    error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// ErrTryIdle is what Await and RelayResponse return when nothing has moved for as long as
// LimitTryIdle allows.
var ErrTryIdle = &Error{Source: Upstream, Flag: meta.UpstreamRequestTimeout, Text: "upstream_per_try_idle_timeout", Code: 504}

// ErrRestart is what Engine.Restart returns.
var ErrRestart = &Error{Source: Internal, Text: "internal_redirect"}
