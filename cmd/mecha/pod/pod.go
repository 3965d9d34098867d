// Package pod makes pods and nodes out of Linux namespaces, for running
// programs behind a sidecar without a cluster and, where the kernel allows
// user namespaces, without root.
//
// A node is a network namespace with a bridge. A pod is a network, process and
// mount namespace whose eth0 is plugged into that bridge, with capture rules, a
// sidecar and a program in it. The host is never changed: no interface, rule,
// route or file is added to it. What leaves a node for the outside world is
// accepted inside the node by a listener that this process serves, and dialled
// again from the host's network (TCP; and DNS over UDP). Everything belongs to
// processes that end with the one that called [NewNode], so nothing is left
// behind, however it ends.
//
// Where only one user id is available, owner rules cannot tell the sidecar from
// the program. The sidecar is recognised by SO_MARK instead: it must set the
// mark in [MarkEnv] on every socket it connects with (upstreams, xDS, DNS over
// TCP). The program has lost the capabilities that would let it do the same.
//
// What is not here: the rules themselves (iptables) and the sidecar (the
// proxy's own command).
package pod

import (
	"log/slog"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/iptables"
)

// Environment variables that a pod's processes find.
const (
	// MarkEnv holds the SO_MARK of the sidecar's sockets, decimal. Only the
	// sidecar gets it.
	MarkEnv = "MECHA_UPSTREAM_MARK"
	// NameEnv and AddrEnv hold the pod's name and IPv4 address.
	NameEnv = "MECHA_POD"
	AddrEnv = "MECHA_POD_IP"
)

// NodeConfig describes a node. The zero value is a good one, except for Self.
type NodeConfig struct {
	// Self is the command that runs [Stage] in a new process, without the
	// stage's own arguments, for example {"/proc/self/exe", "run", StageName}.
	Self []string
	// IPv4 and IPv6 are the networks of the bridge; the zero value means
	// 10.201.0.0/16 and fd6d:6563:6861::/64. Hosts with addresses in them
	// cannot be reached from the node.
	IPv4, IPv6 netip.Prefix
	// Isolated cuts the node off from the outside world: no relaying, and DNS
	// answers only for names of the node.
	Isolated bool
	// Log gets what happens to relayed connections, at debug level; nil discards.
	Log *slog.Logger
}

// Config describes a pod.
type Config struct {
	// Name is the host name inside, and a DNS name (for the IPv4 address) in
	// other pods; with two pods of one name, of the later one.
	Name string
	// IP is the IPv4 address; the zero value takes the next free one.
	IP netip.Addr
	// Command is the program and its arguments, Dir its working directory and
	// Env its whole environment (NameEnv and AddrEnv are added).
	Command []string
	Dir     string
	Env     []string
	// Stdin, Stdout and Stderr are lent to Start; nil is /dev/null.
	Stdin, Stdout, Stderr *os.File

	// Capture is programmed before anything runs; nil leaves the pod without
	// capture and without a sidecar.
	Capture *iptables.Config
	// SkipSelfTest starts the sidecar without proving the rules first.
	SkipSelfTest bool
	// Sidecar is the command that answers the captured connections; SidecarEnv
	// its whole environment (MarkEnv, NameEnv, AddrEnv are added), SidecarLog
	// its standard output and error (lent; nil: the program's Stderr).
	Sidecar    []string
	SidecarEnv []string
	SidecarLog *os.File
	// ReadyPorts must be listened on before the program starts; nil means
	// Capture's ports. ReadyTimeout bounds the wait; 0 means 30 s.
	ReadyPorts   []uint16
	ReadyTimeout time.Duration
	// DrainTime is how long the sidecar may take to end after the program; 0
	// means 3 s.
	DrainTime time.Duration
}

// Exit says how a program ended.
type Exit struct {
	Code   int            // exit code, when Signal is 0
	Signal syscall.Signal // signal that ended it
}

// Status is the exit code as a shell reports it.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

const (
	defaultIPv4 = "10.201.0.0/16"
	defaultIPv6 = "fd6d:6563:6861::/64"
	// firstPod is the host number of the first pod: .1 is the node, .2 stands
	// for the host's loopback.
	firstPod = 10

	defaultReadyTimeout = 30 * time.Second
	defaultDrainTime    = 3 * time.Second
)

// network is a node's address plan.
type network struct {
	V4, V6 netip.Prefix
}

func (n network) nth(p netip.Prefix, i int) netip.Addr {
	a := p.Masked().Addr().AsSlice()
	for k := len(a) - 1; i > 0 && k >= 0; k-- {
		i += int(a[k])
		a[k] = byte(i)
		i >>= 8
	}
	out, _ := netip.AddrFromSlice(a)
	return out
}

// gateway is the node itself, host stands for 127.0.0.1 and ::1 of the host.
func (n network) gateway() (v4, v6 netip.Addr) { return n.nth(n.V4, 1), n.nth(n.V6, 1) }
func (n network) host() (v4, v6 netip.Addr)    { return n.nth(n.V4, 2), n.nth(n.V6, 2) }

// peer is the IPv6 address that goes with a pod's IPv4 address: the same host number.
func (n network) peer(v4 netip.Addr) netip.Addr {
	base, b := n.V4.Masked().Addr().As4(), v4.As4()
	i := 0
	for k := range b {
		i = i<<8 | int(b[k]-base[k])
	}
	return n.nth(n.V6, i)
}
