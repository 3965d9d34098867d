package netio

import (
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// MarkedDialer returns a dialer of package net whose IP sockets carry an SO_MARK; 0 is
// none. It is for libraries that dial themselves; see Dial for everything else.
func MarkedDialer(mark int) *net.Dialer {
	if mark == 0 {
		return new(net.Dialer)
	}
	return &net.Dialer{Control: func(network, _ string, c syscall.RawConn) error {
		if strings.HasPrefix(network, "unix") {
			return nil
		}
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
		})
		if err != nil {
			return err
		}
		return os.NewSyscallError("setsockopt SO_MARK", failed)
	}}
}
