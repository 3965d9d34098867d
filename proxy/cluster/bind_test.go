package cluster

import (
	"context"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/netio"
)

// sockopt reads a socket option of a raw connection.
func sockopt(t *testing.T, c *TCPConn, level, name int) int {
	t.Helper()
	rc, err := c.Conn.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	v := 0
	if e := rc.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), level, name) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return v
}

func mustDial(t *testing.T, c *Cluster) *TCPConn {
	t.Helper()
	conn, err := c.Dial(context.Background(), mustPick(t, c), &Attempt{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestSocketOptions(t *testing.T) {
	o := newOrigin(t)
	tos := func(v int) netio.SocketOption {
		return netio.SocketOption{Level: unix.SOL_IP, Name: unix.IP_TOS, Int: v}
	}
	only6 := tos(0x40)
	only6.NotV4 = true
	own := staticSpec(o.host())
	own.Bind = &Bind{Options: []netio.SocketOption{tos(0x20), only6, {Level: unix.SOL_SOCKET, Name: unix.SO_PRIORITY, Buf: []byte{3, 0, 0, 0}}}}
	m := newTestManager(t, Options{Bind: &Bind{V4: netip.MustParseAddrPort("127.0.0.7:0"), Options: []netio.SocketOption{tos(0x80)}}})
	conn := mustDial(t, mustSet(t, m, own))
	if got := sockopt(t, conn, unix.SOL_IP, unix.IP_TOS); got != 0x20 {
		t.Errorf("the cluster's option is %#x, want 0x20", got)
	}
	if got := sockopt(t, conn, unix.SOL_SOCKET, unix.SO_PRIORITY); got != 3 {
		t.Errorf("the option made of bytes is %d, want 3", got)
	}
	if conn.Local.Addr().String() != "127.0.0.1" {
		t.Errorf("what is for clusters without upstream_bind_config counts for one that has it: %s", conn.Local)
	}
	other := staticSpec(o.host())
	other.Name = "other"
	conn = mustDial(t, mustSet(t, m, other))
	if got := sockopt(t, conn, unix.SOL_IP, unix.IP_TOS); got != 0x80 || conn.Local.Addr().String() != "127.0.0.7" {
		t.Errorf("a cluster without upstream_bind_config connects from %s with %#x", conn.Local, got)
	}
	own.Bind, own.Hash = &Bind{Options: []netio.SocketOption{{Level: 0xffff, Name: 1}}}, 2
	c := mustSet(t, m, own)
	if _, err := c.Dial(context.Background(), mustPick(t, c), &Attempt{}); err == nil {
		t.Error("an option that the kernel does not know is no failure")
	}
}
