package iptables

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echo answers each datagram with name.
func (s *space) echo(addr, name string) {
	s.t.Helper()
	var pc net.PacketConn
	var err error
	s.do(func() { pc, err = (&net.ListenConfig{}).ListenPacket(context.Background(), "udp", addr) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			_, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte(name), from) // the client notices when it is lost
		}
	}()
}

// query sends a datagram from port (0: any) as who, and returns what answers.
// The socket stays open until the test ends.
func (s *space) query(who identity, dst string, port int) string {
	s.t.Helper()
	answer := ""
	s.do(func() {
		d := net.Dialer{LocalAddr: &net.UDPAddr{Port: port}, Control: func(_, _ string, rc syscall.RawConn) (err error) {
			cerr := rc.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
				if who.mark != 0 {
					err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(who.mark)))
				}
			})
			return errors.Join(cerr, err)
		}}
		if who.uid != nil {
			old, _ := unix.SetfsuidRetUid(int(*who.uid))
			defer unix.SetfsuidRetUid(old)
		}
		conn, err := d.Dial("udp", dst)
		if err != nil {
			answer = err.Error()
			return
		}
		s.t.Cleanup(func() { conn.Close() })
		b := make([]byte, 512)
		if err := conn.SetDeadline(time.Now().Add(testTimeout)); err != nil {
			answer = err.Error()
			return
		}
		if _, err := conn.Write([]byte("?")); err != nil {
			answer = err.Error()
			return
		}
		n, err := conn.Read(b)
		if err != nil {
			answer = err.Error()
			return
		}
		answer = string(b[:n])
	})
	return answer
}

func TestDNSCapture(t *testing.T) {
	uid := DefaultConfig()
	uid.ExcludeUIDs = []IDRange{{33, 33}}
	mark := uid
	mark.ProxyUIDs, mark.ProxyGIDs, mark.ProxyMarks = nil, nil, []uint32{DefaultProxyMark}
	for _, with := range []Backend{NFTables, IPTables} {
		for _, id := range []struct {
			name    string
			c       Config
			sidecar identity
		}{{"uid", uid, uidp(1337)}, {"mark", mark, identity{mark: DefaultProxyMark}}} {
			for _, limited := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/limited=%v", with, id.name, limited), func(t *testing.T) {
					t.Parallel()
					c := id.c
					c.DNSPort = DefaultDNSPort
					if limited {
						c.DNSServers = []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("fd07::1")}
					}
					testDNSCapture(t, newLab(t, c, with), id.sidecar, limited)
				})
			}
		}
	}
}

func testDNSCapture(t *testing.T, l *lab, sidecar identity, limited bool) {
	l.pod.echo("127.0.0.1:15053", "sidecar")
	l.pod.echo("[::1]:15053", "sidecar")
	l.world.echo("192.0.2.53:53", "server")
	l.world.echo("[fd07::1]:53", "server")
	l.world.echo("192.0.2.54:53", "another")
	l.world.echo("192.0.2.53:5353", "no DNS")
	another := "sidecar"
	if limited {
		another = "another"
	}
	for i, tc := range []struct {
		who  identity
		dst  string
		want string
	}{
		{identity{}, "192.0.2.53:53", "sidecar"},
		{sidecar, "192.0.2.53:53", "server"},
		{identity{}, "192.0.2.53:53", "sidecar"},
		{identity{}, "[fd07::1]:53", "sidecar"},
		{sidecar, "[fd07::1]:53", "server"},
		{identity{}, "192.0.2.54:53", another},
		{identity{}, "192.0.2.53:5353", "no DNS"},
	} {
		if got := l.pod.query(tc.who, tc.dst, 0); got != tc.want {
			t.Errorf("%d: %s: answered by %q, want %s", i, tc.dst, got, tc.want)
		}
	}
	if sidecar.uid != nil { // with marks, the excluded user is just another program
		if got := l.pod.query(uidp(33), "192.0.2.53:53", 0); got != "server" {
			t.Errorf("excluded user: answered by %q", got)
		}
	}
	// The sidecar asks from the port that the program has asked from, while that waits.
	for range 3 {
		if got := l.pod.query(identity{}, "192.0.2.53:53", 40053); got != "sidecar" {
			t.Errorf("program: answered by %q", got)
		}
		if got := l.pod.query(sidecar, "192.0.2.53:53", 40053); got != "server" {
			t.Errorf("sidecar, from the same port: answered by %q", got)
		}
	}
	// Over TCP.
	dns := l.pod.listen(DefaultDNSPort, false)
	server := l.world.listen(53, false)
	for _, dst := range []string{"192.0.2.53:53", "[fd07::1]:53"} {
		if a, err := l.at(t, l.pod, identity{}, dst, nil, testTimeout, dns, server, l.outbound, l.inbound); err != nil || a.port != DefaultDNSPort {
			t.Errorf("TCP to %s: arrived at %d, %v", dst, a.port, err)
		}
		if a, err := l.at(t, l.pod, sidecar, dst, nil, testTimeout, dns, server, l.outbound, l.inbound); err != nil || a.port != 53 {
			t.Errorf("TCP to %s by the sidecar: arrived at %d, %v", dst, a.port, err)
		}
	}
}

func TestDNSConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"without a DNS port":               func(c *Config) { c.DNSPort, c.DNSServers = 0, []netip.Addr{netip.MustParseAddr("10.0.0.10")} },
		"15001 is also a port":             func(c *Config) { c.DNSPort = 15001 },
		"53 is that of servers":            func(c *Config) { c.DNSPort = 53 },
		"an empty list captures nothing":   func(c *Config) { c.DNSServers = []netip.Addr{} },
		"expected an IPv4 or IPv6 address": func(c *Config) { c.DNSServers = []netip.Addr{{}} },
		"257 entries; at most 256":         func(c *Config) { c.DNSServers = make([]netip.Addr, maxEntries+1) },
	} {
		c := DefaultConfig()
		c.DNSPort = DefaultDNSPort
		change(&c)
		if _, err := Plan(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
