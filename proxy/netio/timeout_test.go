package netio

import (
	"net"
	"os"
	"syscall"
	"testing"
)

// TestIsTimeout: a peer that has vanished is no deadline of ours, though package net calls both
// a timeout.
func TestIsTimeout(t *testing.T) {
	gone := &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
	if !gone.Timeout() || IsTimeout(gone) {
		t.Errorf("%v is taken for a deadline", gone)
	}
	if late := (&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}); !IsTimeout(late) {
		t.Errorf("%v is not taken for a deadline", late)
	}
}
