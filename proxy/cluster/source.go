package cluster

import (
	"errors"
	"fmt"

	"github.com/mecha-mesh/mecha/proxy/meta"
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
