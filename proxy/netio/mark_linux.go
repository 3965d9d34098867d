package netio

import (
	"net"
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
	return OptionsDialer([]SocketOption{{Level: unix.SOL_SOCKET, Name: unix.SO_MARK, Int: mark}})
}

// OptionsDialer is MarkedDialer for any socket options.
func OptionsDialer(options []SocketOption) *net.Dialer {
	return &net.Dialer{Control: func(network, _ string, c syscall.RawConn) error {
		if strings.HasPrefix(network, "unix") {
			return nil
		}
		var failed error
		err := c.Control(func(fd uintptr) {
			for i := range options {
				if failed = socket(fd).option(&options[i], strings.HasSuffix(network, "6")); failed != nil {
					return
				}
			}
		})
		if err != nil {
			return err
		}
		return failed
	}}
}
