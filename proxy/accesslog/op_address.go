package accesslog

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// addressOf returns one of the addresses of an entry, the zero Addr for none.
type addressOf func(*Entry) meta.Addr

// defineAddress knows the operators about addresses and hosts.
func defineAddress(name string) (definition, bool) {
	switch name {
	case "UPSTREAM_HOST":
		return address(upstreamHost), true
	case "UPSTREAM_HOSTS_ATTEMPTED":
		return address(upstreamRemote), true
	case "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT":
		return definition{args: mayArgs, build: withoutPort(upstreamRemote)}, true
	case "UPSTREAM_HOST_NAME":
		return definition{plain: hostname(upstreamHost, false)}, true
	case "UPSTREAM_HOST_NAME_WITHOUT_PORT":
		return definition{plain: hostname(upstreamHost, true)}, true
	case "UPSTREAM_HOST_NAMES_ATTEMPTED":
		return definition{plain: hostname(upstreamRemote, false)}, true
	case "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT":
		return definition{plain: hostname(upstreamRemote, true)}, true
	case "UPSTREAM_CONNECTION_IDS_ATTEMPTED":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
			if e.Stream == nil || e.Stream.UpstreamConn == 0 {
				return dst, false
			}
			return strconv.AppendUint(dst, e.Stream.UpstreamConn, 10), true
		}}, true
	}
	base, of := addressNamed(name)
	if of == nil {
		return definition{}, false
	}
	switch name[len(base):] {
	case "_ADDRESS":
		return address(of), true
	case "_ADDRESS_WITHOUT_PORT":
		return definition{args: mayArgs, build: withoutPort(of)}, true
	case "_PORT":
		return definition{kind: number, plain: func(dst []byte, e *Entry) ([]byte, bool) {
			a := of(e)
			if !a.AddrPort.IsValid() {
				return dst, false
			}
			return strconv.AppendUint(dst, uint64(a.Port()), 10), true
		}}, true
	case "_ADDRESS_ENDPOINT_ID": // of Envoy-internal addresses
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) { return dst, of(e).Known() }}, true
	}
	return definition{}, false
}

// addressNamed finds the address that the beginning of an operator's name names.
func addressNamed(name string) (base string, of addressOf) {
	for _, n := range [...]struct {
		base string
		of   addressOf
	}{
		{"UPSTREAM_LOCAL", func(e *Entry) meta.Addr { return e.stream().UpstreamLocal }},
		{"UPSTREAM_REMOTE", upstreamRemote},
		{"DOWNSTREAM_REMOTE", func(e *Entry) meta.Addr { return e.conn().Remote }},
		{"DOWNSTREAM_DIRECT_REMOTE", func(e *Entry) meta.Addr { return e.conn().Direct }},
		{"DOWNSTREAM_LOCAL", func(e *Entry) meta.Addr { return e.conn().Local }},
		{"DOWNSTREAM_DIRECT_LOCAL", directLocal},
	} {
		if strings.HasPrefix(name, n.base+"_") {
			return n.base, n.of
		}
	}
	return "", nil
}

// conn and stream return what e has, or something empty.
func (e *Entry) conn() *meta.Conn {
	if e.Conn == nil {
		return &noConn
	}
	return e.Conn
}

func (e *Entry) stream() *meta.Stream {
	if e.Stream == nil {
		return &noStream
	}
	return e.Stream
}

// Only read.
var (
	noConn   meta.Conn
	noStream meta.Stream
)

func upstreamHost(e *Entry) meta.Addr { return e.stream().UpstreamHost }

// upstreamRemote is the host once there was a connection to it.
func upstreamRemote(e *Entry) meta.Addr {
	if s := e.stream(); s.UpstreamConn != 0 || s.UpstreamLocal.Known() {
		return s.UpstreamHost
	}
	return meta.Addr{}
}

// directLocal is the local address of the socket. A redirected connection's is not
// kept, so the restored destination stands for it.
func directLocal(e *Entry) meta.Addr { return e.conn().Local }

func address(of addressOf) definition {
	return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
		a := of(e)
		return a.AppendTo(dst), a.Known()
	}}
}

// withoutPort takes a prefix length, with which it prints a network.
func withoutPort(of addressOf) func(args string) (appendFunc, error) {
	return func(args string) (appendFunc, error) {
		bits := -1
		if args != "" {
			n, err := strconv.ParseUint(args, 10, 8)
			if err != nil || n > 128 {
				return nil, fmt.Errorf("%q is not the length of a prefix", args)
			}
			bits = int(n)
		}
		return func(dst []byte, e *Entry) ([]byte, bool) {
			a := of(e)
			if a.IsUnix() {
				return a.AppendTo(dst), bits < 0
			}
			ip := a.Addr()
			if !ip.IsValid() {
				return dst, false
			}
			if bits < 0 {
				return ip.AppendTo(dst), true
			}
			p := netip.PrefixFrom(ip, min(bits, ip.BitLen())).Masked()
			return p.AppendTo(dst), p.IsValid()
		}, nil
	}
}

// hostname prints the configured name of the upstream host, its address without one.
func hostname(of addressOf, cut bool) appendFunc {
	return func(dst []byte, e *Entry) ([]byte, bool) {
		a := of(e)
		if !a.Known() {
			return dst, false
		}
		name := e.stream().UpstreamHostname
		switch {
		case name == "" && cut && !a.IsUnix():
			return a.Addr().AppendTo(dst), true
		case name == "":
			return a.AppendTo(dst), true
		}
		if cut {
			if i := strings.LastIndexByte(name, ':'); i > 0 && strings.IndexByte(name, ':') == i {
				name = name[:i]
			}
		}
		return append(dst, name...), true
	}
}
