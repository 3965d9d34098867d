package iptables

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A pod (10.7.0.2, fd07::2) and the world outside (10.7.0.1, fd07::1, and the
// documentation networks behind it).
type lab struct {
	pod, world        *space
	outbound, inbound *mouth
}

func newLab(t *testing.T, c Config, with Backend) *lab {
	t.Helper()
	if with == IPTables {
		requireProgram(t, "iptables-restore", "ip6tables-restore", "iptables-save")
	}
	l := &lab{pod: newSpace(t), world: newSpace(t)}
	cable(t, l.pod, l.world, []string{"10.7.0.2/24", "fd07::2/64"}, []string{"10.7.0.1/24", "fd07::1/64"})
	l.world.do(func() {
		lo, err := netlink.LinkByName("lo")
		l.world.must(err)
		// The world answers for every address of the documentation networks.
		for _, n := range must(ParseCIDRs("192.0.2.0/23,198.51.100.0/24,203.0.113.0/24,2001:db8::/32"))(t) {
			r := &netlink.Route{LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST}
			r.Dst = &net.IPNet{IP: n.Addr().AsSlice(), Mask: net.CIDRMask(n.Bits(), n.Addr().BitLen())}
			l.world.must(netlink.RouteReplace(r))
		}
	})
	rs := mustPlan(t, c)
	l.pod.do(func() {
		done, err := Apply(rs, with)
		if err != nil || done.Backend != with {
			t.Errorf("apply: %+v %v", done, err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	l.outbound = l.pod.listen(c.OutboundPort, false)
	if c.Inbound != None {
		l.inbound = l.pod.listen(c.InboundPort, c.Inbound == TProxy)
	}
	return l
}

// at connects from one place as someone and says where that arrived. Exactly
// one of the listeners may get it.
func (l *lab) at(t *testing.T, from *space, who identity, dst string, control func(int) error, within time.Duration, listeners ...*mouth) (arrival, error) {
	t.Helper()
	if err := from.dialAs(who, dst, control, within); err != nil {
		return arrival{}, err
	}
	var got []arrival
	for _, m := range listeners {
		select {
		case a := <-m.got:
			a.release()
			got = append(got, a)
		default:
		}
	}
	if len(got) != 1 {
		t.Fatalf("connection to %s arrived %d times", dst, len(got))
	}
	return got[0], nil
}

func TestCapture(t *testing.T) {
	uid := DefaultConfig()
	mark := DefaultConfig()
	mark.ProxyUIDs, mark.ProxyGIDs, mark.ProxyMarks = nil, nil, []uint32{DefaultProxyMark}
	for _, with := range []Backend{NFTables, IPTables} {
		for _, mode := range []Mode{Redirect, TProxy} {
			for _, id := range []struct {
				name    string
				c       Config
				sidecar identity
			}{{"uid", uid, uidp(1337)}, {"gid", uid, gidp(1337)}, {"mark", mark, identity{mark: DefaultProxyMark}}} {
				t.Run(fmt.Sprintf("%s/%s/%s", with, mode, id.name), func(t *testing.T) {
					t.Parallel()
					c := id.c
					c.Inbound = mode
					testCapture(t, newLab(t, c, with), id.sidecar)
				})
			}
		}
	}
}

func testCapture(t *testing.T, l *lab, sidecar identity) {
	app := l.pod.listen(8080, false)
	server := l.world.listen(9090, false)
	everyone := []*mouth{l.outbound, l.inbound, app, server}
	program, stranger := identity{}, uidp(4242)
	bindTo := func(ip string) func(int) error {
		return func(fd int) error {
			a := netip.MustParseAddr(ip)
			if a.Is4() {
				return unix.Bind(fd, &unix.SockaddrInet4{Addr: a.As4()})
			}
			return unix.Bind(fd, &unix.SockaddrInet6{Addr: a.As16()})
		}
	}
	device := func(name string) func(int) error {
		return func(fd int) error { return unix.BindToDevice(fd, name) }
	}
	for _, tc := range []struct {
		name    string
		from    *space
		who     identity
		dst     string
		control func(int) error
		want    uint16 // port it arrives at, 0: nowhere
	}{
		{"program to IPv4", l.pod, program, "192.0.2.7:9090", nil, 15001},
		{"program to IPv6", l.pod, program, "[2001:db8::7]:9090", nil, 15001},
		{"program to a neighbour", l.pod, program, "10.7.0.1:9090", nil, 15001},
		{"program with another uid", l.pod, stranger, "10.7.0.1:9090", nil, 15001},
		{"program bound to its interface", l.pod, program, "10.7.0.1:9090", device("eth0"), 0},
		{"program bound to lo", l.pod, program, "10.7.0.1:9090", device("lo"), 0},
		{"program bound to lo, IPv6", l.pod, program, "[fd07::1]:9090", device("lo"), 0},
		{"program with the pass-through source", l.pod, program, "10.7.0.1:9090", bindTo("127.0.0.6"), 0},
		{"program to itself by loopback", l.pod, program, "127.0.0.1:8080", nil, 8080},
		{"program to itself by loopback IPv6", l.pod, program, "[::1]:8080", nil, 8080},
		{"program to itself by its own address", l.pod, program, "10.7.0.2:8080", nil, 8080},
		{"program to itself by its own address IPv6", l.pod, program, "[fd07::2]:8080", nil, 8080},
		{"sidecar to IPv4", l.pod, sidecar, "192.0.2.7:9090", nil, 9090},
		{"sidecar to IPv6", l.pod, sidecar, "[2001:db8::7]:9090", nil, 9090},
		{"sidecar to the program", l.pod, sidecar, "127.0.0.1:8080", nil, 8080},
		{"sidecar to the program from 127.0.0.6", l.pod, sidecar, "10.7.0.2:8080", bindTo("127.0.0.6"), 8080},
		{"sidecar to the program from ::6", l.pod, sidecar, "[fd07::2]:8080", bindTo("::6"), 8080},
		{"sidecar to its own pod", l.pod, sidecar, "10.7.0.2:8080", nil, 15006},
		{"sidecar to its own pod IPv6", l.pod, sidecar, "[fd07::2]:8080", nil, 15006},
		{"world to the program", l.world, program, "10.7.0.2:8080", nil, 15006},
		{"world to the program IPv6", l.world, program, "[fd07::2]:8080", nil, 15006},
	} {
		t.Run(tc.name, func(t *testing.T) {
			within := testTimeout
			if tc.want == 0 {
				within = nowhereTimeout
			}
			got, err := l.at(t, tc.from, tc.who, tc.dst, tc.control, within, everyone...)
			switch {
			case tc.want == 0 && err == nil && got.port == 9090:
				t.Errorf("reached the outside directly")
			case tc.want == 0:
			case err != nil:
				t.Errorf("%v", err)
			case got.port != tc.want:
				t.Errorf("arrived at %d, want %d", got.port, tc.want)
			case got.wanted.String() != tc.dst:
				t.Errorf("original destination %v, want %v", got.wanted, tc.dst)
			}
		})
	}
}

func TestTProxyKeepsTheClientsAddress(t *testing.T) {
	for _, mode := range []Mode{Redirect, TProxy} {
		c := DefaultConfig()
		c.Inbound = mode
		l := newLab(t, c, NFTables)
		for dst, src := range map[string]string{"10.7.0.2:80": "10.7.0.1", "[fd07::2]:80": "fd07::1"} {
			got, err := l.at(t, l.world, identity{}, dst, nil, testTimeout, l.inbound)
			if err != nil || got.from.Addr().String() != src {
				t.Errorf("%s: client %v, want %s (%v)", mode, got.from, src, err)
			}
		}
	}
}

// With the client's address as the source (original_src: transparent socket,
// mark 1337) the program's answers must come back to the sidecar.
func TestTProxySidecarCallsAsTheClient(t *testing.T) {
	for _, with := range []Backend{NFTables, IPTables} {
		t.Run(string(with), func(t *testing.T) {
			c := DefaultConfig()
			c.Inbound = TProxy
			l := newLab(t, c, with)
			app := l.pod.listen(8080, false)
			asClient := func(fd int) error {
				return errors.Join(setTransparent(fd), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 7, 0, 1}}))
			}
			sidecar := uidp(1337)
			sidecar.mark = DefaultTProxyMark
			got, err := l.at(t, l.pod, sidecar, "10.7.0.2:8080", asClient, testTimeout, app, l.inbound)
			if err != nil || got.port != 8080 || got.from.Addr().String() != "10.7.0.1" {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
}

// Nobody listens on the inbound port: the program must not be reached around
// the sidecar, in either mode.
func TestInboundFailsClosed(t *testing.T) {
	for _, with := range []Backend{NFTables, IPTables} {
		for _, mode := range []Mode{Redirect, TProxy} {
			t.Run(string(with)+"/"+string(mode), func(t *testing.T) {
				c := DefaultConfig()
				c.Inbound = mode
				l := newLab(t, c, with)
				l.inbound.Close()
				app := l.pod.listen(8080, false)
				if got, err := l.at(t, l.world, identity{}, "10.7.0.2:8080", nil, nowhereTimeout, app); err == nil {
					t.Errorf("arrived at %d without a sidecar", got.port)
				}
			})
		}
	}
}

func TestExclusionsBypass(t *testing.T) {
	for _, with := range []Backend{NFTables, IPTables} {
		for _, mode := range []Mode{Redirect, TProxy} {
			t.Run(string(with)+"/"+string(mode), func(t *testing.T) {
				c := DefaultConfig()
				c.Inbound = mode
				c.ExcludeOutboundPorts = must(ParsePorts("2200-2210,2300"))(t)
				c.ExcludeOutboundCIDRs = must(ParseCIDRs("203.0.113.0/25,2001:db8:1::/48"))(t)
				c.ExcludeInboundPorts = must(ParsePorts("8081"))(t)
				c.ExcludeInboundCIDRs = must(ParseCIDRs("198.51.100.0/24"))(t)
				c.ExcludeUIDs, c.ExcludeGIDs = must(ParseIDs("3000-3005"))(t), must(ParseIDs("4000"))(t)
				l := newLab(t, c, with)
				all := []*mouth{l.outbound, l.inbound}
				for _, p := range []uint16{2200, 2210, 2211, 2300, 9090} {
					all = append(all, l.world.listen(p, false))
				}
				for _, p := range []uint16{8080, 8081} {
					all = append(all, l.pod.listen(p, false))
				}
				fromExcluded := func(fd int) error {
					return errors.Join(setTransparent(fd), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{198, 51, 100, 9}}))
				}
				for _, tc := range []struct {
					from    *space
					who     identity
					dst     string
					control func(int) error
					want    uint16
				}{
					{l.pod, identity{}, "192.0.2.1:2200", nil, 2200},
					{l.pod, identity{}, "192.0.2.1:2210", nil, 2210},
					{l.pod, identity{}, "192.0.2.1:2211", nil, 15001},
					{l.pod, identity{}, "[2001:db8::9]:2300", nil, 2300},
					{l.pod, identity{}, "203.0.113.127:9090", nil, 9090},
					{l.pod, identity{}, "203.0.113.128:9090", nil, 15001},
					{l.pod, identity{}, "[2001:db8:1::1]:9090", nil, 9090},
					{l.pod, identity{}, "[2001:db8:2::1]:9090", nil, 15001},
					{l.pod, uidp(3005), "192.0.2.1:9090", nil, 9090},
					{l.pod, uidp(3006), "192.0.2.1:9090", nil, 15001},
					{l.pod, gidp(4000), "192.0.2.1:9090", nil, 9090},
					{l.pod, gidp(4001), "192.0.2.1:9090", nil, 15001},
					{l.world, identity{}, "10.7.0.2:8081", nil, 8081},
					{l.world, identity{}, "10.7.0.2:8080", nil, 15006},
					{l.world, identity{}, "10.7.0.2:8080", fromExcluded, 8080},
				} {
					got, err := l.at(t, tc.from, tc.who, tc.dst, tc.control, testTimeout, all...)
					if err != nil || got.port != tc.want {
						t.Errorf("%+v to %s: arrived at %d, want %d (%v)", tc.who, tc.dst, got.port, tc.want, err)
					}
				}
			})
		}
	}
}

func TestIncludeLists(t *testing.T) {
	for _, mode := range []Mode{Redirect, TProxy} {
		t.Run(string(mode), func(t *testing.T) {
			c := DefaultConfig()
			c.Inbound = mode
			c.InboundPorts = must(ParsePorts("8080-8089"))(t)
			c.OutboundCIDRs = must(ParseCIDRs("192.0.2.0/24"))(t)
			c.OutboundPorts = must(ParsePorts("9999"))(t)
			c.OutboundGIDs = must(ParseIDs("0,500-600"))(t)
			l := newLab(t, c, NFTables)
			all := []*mouth{l.outbound, l.inbound, l.world.listen(9090, false), l.world.listen(9999, false), l.pod.listen(7000, false)}
			for _, tc := range []struct {
				from *space
				who  identity
				dst  string
				want uint16
			}{
				{l.pod, identity{}, "192.0.2.200:9090", 15001},
				{l.pod, identity{}, "192.0.3.1:9090", 9090},
				{l.pod, identity{}, "[2001:db8::1]:9090", 9090},
				{l.pod, identity{}, "[2001:db8::1]:9999", 15001},
				{l.pod, gidp(600), "192.0.2.200:9090", 15001},
				{l.pod, gidp(601), "192.0.2.200:9090", 9090},
				{l.world, identity{}, "10.7.0.2:8089", 15006},
				{l.world, identity{}, "10.7.0.2:7000", 7000},
			} {
				got, err := l.at(t, tc.from, tc.who, tc.dst, nil, testTimeout, all...)
				if err != nil || got.port != tc.want {
					t.Errorf("%+v to %s: arrived at %d, want %d (%v)", tc.who, tc.dst, got.port, tc.want, err)
				}
			}
		})
	}
}

func TestInterfaces(t *testing.T) {
	c := DefaultConfig()
	c.ExcludeInterfaces = []string{"eth*"}
	l := newLab(t, c, NFTables)
	server, app := l.world.listen(9090, false), l.pod.listen(8080, false)
	for dst, want := range map[string]uint16{"10.7.0.1:9090": 9090} {
		if got, err := l.at(t, l.pod, identity{}, dst, nil, testTimeout, server, l.outbound); err != nil || got.port != want {
			t.Errorf("outbound over an excluded interface: %d %v", got.port, err)
		}
	}
	if got, err := l.at(t, l.world, identity{}, "10.7.0.2:8080", nil, testTimeout, app, l.inbound); err != nil || got.port != 8080 {
		t.Errorf("inbound over an excluded interface: %d %v", got.port, err)
	}

	// The cable now leads to a guest: what it sends is outbound.
	c.ExcludeInterfaces, c.GuestInterfaces = nil, []string{"eth0"}
	l = newLab(t, c, NFTables)
	if got, err := l.at(t, l.world, identity{}, "10.7.0.2:8080", nil, testTimeout, l.outbound, l.inbound); err != nil || got.port != 15001 {
		t.Errorf("a guest's connection: %d %v", got.port, err)
	}
}

func TestSingleFamily(t *testing.T) {
	c := DefaultConfig()
	c.Families = IPv4Only
	l := newLab(t, c, NFTables)
	server := l.world.listen(9090, false)
	for dst, want := range map[string]uint16{"10.7.0.1:9090": 15001, "[fd07::1]:9090": 9090} {
		if got, err := l.at(t, l.pod, identity{}, dst, nil, testTimeout, server, l.outbound); err != nil || got.port != want {
			t.Errorf("%s: arrived at %d, want %d (%v)", dst, got.port, want, err)
		}
	}
}

// A program that speaks Multipath TCP is captured like any other.
func TestMultipathTCPIsCaptured(t *testing.T) {
	l := newLab(t, DefaultConfig(), NFTables)
	server := l.world.listen(9090, false)
	var err error
	l.pod.do(func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP); err != nil {
			return
		}
		defer unix.Close(fd)
		for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
			l.pod.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, &unix.Timeval{Sec: 3}))
		}
		if err = unix.Connect(fd, &unix.SockaddrInet4{Port: 9090, Addr: [4]byte{10, 7, 0, 1}}); err != nil {
			return
		}
		_, err = unix.Read(fd, make([]byte, 1))
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("the kernel has no MPTCP")
	}
	if err != nil || len(server.got) != 0 || len(l.outbound.got) != 1 {
		t.Errorf("captured %d, direct %d, %v", len(l.outbound.got), len(server.got), err)
	}
}

// Replacing the rules must not disturb a connection that lives.
func TestApplyKeepsLiveConnections(t *testing.T) {
	l := newLab(t, DefaultConfig(), NFTables)
	l.pod.do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		l.pod.must(err)
		defer unix.Close(fd)
		l.pod.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 3}))
		l.pod.must(unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{192, 0, 2, 1}}))
		if n, err := unix.Read(fd, make([]byte, 1)); n != 1 {
			t.Errorf("greeting: %v", err)
		}
		a := <-l.outbound.got
		c := DefaultConfig()
		c.ExcludeOutboundPorts = must(ParsePorts("80"))(t)
		_, err = Apply(mustPlan(t, c), NFTables)
		l.pod.must(err)
		// The orderly end of the connection crosses the new rules.
		a.release()
		if n, err := unix.Read(fd, make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("end of a live connection: %d %v", n, err)
		}
	})
}

func TestCountersSayWhatHappened(t *testing.T) {
	requireProgram(t, "nft")
	l := newLab(t, DefaultConfig(), NFTables)
	if _, err := l.at(t, l.pod, identity{}, "192.0.2.7:9090", nil, testTimeout, l.outbound); err != nil {
		t.Fatal(err)
	}
	var listed string
	l.pod.do(func() {
		if done, err := Apply(mustPlan(t, DefaultConfig()), NFTables); err != nil || done.Changed {
			t.Errorf("second apply: %+v %v", done, err)
		}
		listed = list(t)
	})
	for line := range strings.Lines(listed) {
		if strings.Contains(line, `comment "outbound: to the sidecar"`) && !strings.Contains(line, "counter packets 1 ") {
			t.Errorf("one connection was captured: %s", line)
		}
	}
}
