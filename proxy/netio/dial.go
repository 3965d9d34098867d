package netio

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// DialOptions is how an upstream connection is made.
type DialOptions struct {
	Addr meta.Addr
	// Bind is where the connection comes from, for the family of Addr; the zero value
	// leaves it to the kernel. Port 0 is any.
	Bind struct {
		V4, V6 netip.AddrPort
		// Freebind allows an address that the machine does not have.
		Freebind bool
		// Transparent does, too, and also lets answers to it reach the socket.
		Transparent bool
	}
	Mark      int            // SO_MARK, 0 for none
	Options   []SocketOption // set before bind and connect
	KeepAlive KeepAlive
	// Delay leaves Nagle's algorithm on.
	Delay   bool
	Timeout time.Duration // 0 for none but that of the context
}

// KeepAlive configures TCP keep-alive; zero values are the kernel's.
type KeepAlive struct {
	Enable         bool
	Probes         int
	Idle, Interval time.Duration
}

func (k KeepAlive) config() net.KeepAliveConfig {
	c := net.KeepAliveConfig{Enable: k.Enable, Idle: k.Idle, Interval: k.Interval, Count: k.Probes}
	// package net reads 0 as its own default and -1 as the kernel's.
	if c.Idle == 0 {
		c.Idle = -1
	}
	if c.Interval == 0 {
		c.Interval = -1
	}
	if c.Count == 0 {
		c.Count = -1
	}
	return c
}

// Dial connects. Its errors are those of package net; os.ErrDeadlineExceeded and
// context.DeadlineExceeded tell a timeout.
func Dial(ctx context.Context, o DialOptions) (*Conn, error) {
	d := net.Dialer{Timeout: o.Timeout, KeepAlive: -1, KeepAliveConfig: o.KeepAlive.config()}
	network, address := "unix", o.Addr.Path
	if !o.Addr.IsUnix() {
		if !o.Addr.AddrPort.IsValid() {
			return nil, fmt.Errorf("netio: dial: no address")
		}
		ip := o.Addr.Addr().Unmap()
		network, address = "tcp6", netip.AddrPortFrom(ip, o.Addr.Port()).String()
		bind, v6 := o.Bind.V6, true
		if ip.Is4() {
			network, bind, v6 = "tcp4", o.Bind.V4, false
		}
		if bind.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(bind)
		}
		if bind.IsValid() || o.Mark != 0 || len(o.Options) > 0 {
			d.Control = dialControl(&o, v6, bind)
		}
	}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok && o.Delay {
		_ = t.SetNoDelay(false) // a socket that is gone fails at its first use
	}
	return NewConn(c), nil
}

// dialControl sets what must be set before bind and connect.
func dialControl(o *DialOptions, v6 bool, bind netip.AddrPort) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) {
			s := socket(fd)
			if bind.IsValid() && bind.Port() == 0 {
				s.bindNoPort()
			}
			if bind.IsValid() && o.Bind.Freebind {
				err = s.freebind(v6)
			}
			if err == nil && bind.IsValid() && o.Bind.Transparent {
				err = s.transparent(v6)
			}
			if err == nil && o.Mark != 0 {
				err = s.mark(o.Mark)
			}
			for i := range o.Options {
				if err == nil {
					err = s.option(&o.Options[i], v6)
				}
			}
		}); e != nil {
			return e
		}
		return err
	}
}
