package netio

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Pair returns the two ends of a connection inside this process. It has no address and
// no port; everything else is as with any other connection: the kernel holds the bytes,
// waits for room, tells of readiness, and splices.
func Pair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if a, err = connOf(fds[0]); err != nil {
		_ = unix.Close(fds[1]) // the first error counts
		return nil, nil, err
	}
	if b, err = connOf(fds[1]); err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// connOf takes over a descriptor.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "internal connection")
	c, err := net.FileConn(f)
	_ = f.Close() // c has its own
	return c, err
}
