package cluster

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// Source finds clusters by name. It is used on the hot path, concurrently.
type Source interface {
	// Cluster returns nil if there is none of that name, or it is still warming for the
	// first time.
	Cluster(name string) *Cluster
}

// The errors of Pick and Acquire.
var (
	ErrNoHealthyHost   = errors.New("no healthy host")
	ErrOverflow        = errors.New("circuit breaker is open")
	ErrPendingOverflow = errors.New("too many requests wait for a connection")
)

// ConnectError is a connection that could not be made: nothing of a request was sent.
type ConnectError struct {
	Timeout bool
	Host    meta.Addr
	Err     error
}

func (e *ConnectError) Error() string {
	if e.Timeout {
		return fmt.Sprintf("connection timeout to %s", e.Host)
	}
	return fmt.Sprintf("connection to %s failed: %v", e.Host, e.Err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Reason is the failure in Envoy's words (upstream_transport_failure_reason), "" where the
// host has closed the connection: then there are none.
func (e *ConnectError) Reason() string {
	var no syscall.Errno
	switch {
	case e.Timeout:
		return "connection timeout"
	case errors.Is(e.Err, transport.ErrGone):
		return ""
	case errors.As(e.Err, new(*transport.Failure)), !errors.As(e.Err, &no):
		return e.Err.Error()
	}
	return "delayed connect error: " + errnoText(no)
}

// errnoText spells the codes that connect(2) gives as the C library does, since that is
// what the logs of other proxies show.
func errnoText(no syscall.Errno) string {
	switch no {
	case syscall.ECONNREFUSED:
		return "Connection refused"
	case syscall.ENETUNREACH:
		return "Network is unreachable"
	case syscall.EHOSTUNREACH:
		return "No route to host"
	case syscall.ETIMEDOUT:
		return "Connection timed out"
	case syscall.ECONNRESET:
		return "Connection reset by peer"
	case syscall.ENOENT:
		return "No such file or directory"
	}
	return no.Error()
}
