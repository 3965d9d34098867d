package netio

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// ListenOptions is how a socket is bound.
type ListenOptions struct {
	// Addr is an IP address with its port (0 is any), or the path of a unix socket:
	// relative paths are those of the working directory, a leading '@' is the abstract
	// namespace.
	Addr meta.Addr
	// DualStack lets [::] take IPv4 connections, too (ipv4_compat).
	DualStack   bool
	ReusePort   bool
	Transparent bool // TPROXY: accept connections to any address
	Freebind    bool
	Backlog     int         // 0 is the kernel's largest
	DeferAccept int         // seconds to wait for the first bytes before accepting, 0 is none
	Mode        fs.FileMode // of a unix socket's path, 0 leaves the umask's
}

// Listener is a bound socket.
type Listener struct {
	l    net.Listener
	addr meta.Addr
}

// Listen binds and listens. A unix socket that nobody listens on any more is
// replaced; any other file at its path is left alone and is an error.
func Listen(o ListenOptions) (*Listener, error) {
	// Multipath TCP, package net's default, has no redirection and no splice.
	lc := net.ListenConfig{KeepAlive: -1, Control: o.control}
	lc.SetMultipathTCP(false)
	network, address := o.network()
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, err
		}
	}
	l, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	if err := o.finish(l); err != nil {
		_ = l.Close() // the first error counts
		return nil, err
	}
	return &Listener{l: l, addr: meta.AddrOf(l.Addr())}, nil
}

func (o *ListenOptions) network() (network, address string) {
	if o.Addr.IsUnix() {
		return "unix", o.Addr.Path
	}
	ip := o.Addr.Addr()
	switch {
	case ip.Is4() || ip.Is4In6():
		return "tcp4", netip.AddrPortFrom(ip.Unmap(), o.Addr.Port()).String()
	case ip == netip.IPv6Unspecified() && o.DualStack:
		return "tcp", o.Addr.String()
	}
	return "tcp6", o.Addr.String()
}

// control sets what must be set before bind.
func (o *ListenOptions) control(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	v6 := network == "tcp6"
	set := func(want bool, f func() error) {
		if want && err == nil {
			err = f()
		}
	}
	if e := raw.Control(func(fd uintptr) {
		s := socket(fd)
		set(o.ReusePort, s.reusePort)
		set(o.Transparent, func() error { return s.transparent(v6) })
		set(o.Freebind, func() error { return s.freebind(v6) })
		set(o.DeferAccept > 0, func() error { return s.deferAccept(o.DeferAccept) })
	}); e != nil {
		return e
	}
	return err
}

// finish sets what can be set only after package net has begun to listen.
func (o *ListenOptions) finish(l net.Listener) error {
	if o.Mode != 0 && o.Addr.IsUnix() && !strings.HasPrefix(o.Addr.Path, "@") {
		if err := os.Chmod(o.Addr.Path, o.Mode); err != nil {
			return err
		}
	}
	if o.Backlog <= 0 {
		return nil
	}
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	if err := raw.Control(func(fd uintptr) { lerr = unix.Listen(int(fd), o.Backlog) }); err != nil {
		return err
	}
	return os.NewSyscallError("listen", lerr)
}

// removeStale removes the socket that an earlier process has left at path.
func removeStale(path string) error {
	if strings.HasPrefix(path, "@") {
		return nil
	}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen unix %s: the path exists and is no socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close() // it only asked whether somebody listens
		return fmt.Errorf("listen unix %s: %w", path, syscall.EADDRINUSE)
	}
	return os.Remove(path)
}

// Addr returns the address that is bound, with the port that the kernel chose.
func (l *Listener) Addr() meta.Addr { return l.addr }

// Accept waits for a connection. net.ErrClosed is the end; a temporary lack of
// descriptors or memory is reported by Exhausted.
func (l *Listener) Accept() (net.Conn, error) { return l.l.Accept() }

// Close ends Accept. Connections that wait in the backlog are reset by the kernel.
func (l *Listener) Close() error { return l.l.Close() }

// Exhausted reports whether an error of Accept is a lack of descriptors or memory
// that may pass.
func Exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) ||
		errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}
