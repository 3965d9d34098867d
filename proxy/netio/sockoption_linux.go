package netio

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SocketOption is a setsockopt that configuration asks for
// (envoy.config.core.v3.SocketOption).
type SocketOption struct {
	Level, Name int
	Int         int
	Buf         []byte // in place of Int; nil is Int
	NotV4       bool   // ip_version says IPv6 only
	NotV6       bool   // ip_version says IPv4 only
}

// String returns "level 1 name 36".
func (o *SocketOption) String() string { return fmt.Sprintf("level %d name %d", o.Level, o.Name) }

// option sets an option that is meant for the socket's address family.
func (s socket) option(o *SocketOption, v6 bool) error {
	switch {
	case v6 && o.NotV6, !v6 && o.NotV4:
		return nil
	case o.Buf != nil:
		err := unix.SetsockoptString(int(s), o.Level, o.Name, string(o.Buf))
		return os.NewSyscallError("setsockopt "+o.String(), err)
	}
	return os.NewSyscallError("setsockopt "+o.String(), unix.SetsockoptInt(int(s), o.Level, o.Name, o.Int))
}

// Marks returns the SO_MARK among options, the last one as the kernel has it, and
// whether there is one.
func Marks(options []SocketOption) (mark int, ok bool) {
	for i := range options {
		if o := &options[i]; o.Level == unix.SOL_SOCKET && o.Name == unix.SO_MARK && o.Buf == nil {
			mark, ok = o.Int, true
		}
	}
	return mark, ok
}

// all sets options in their order, until one fails.
func (s socket) all(options []SocketOption, v6 bool) error {
	for i := range options {
		if err := s.option(&options[i], v6); err != nil {
			return err
		}
	}
	return nil
}
