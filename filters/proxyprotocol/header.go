package proxyprotocol

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// version is a version of the PROXY protocol.
type version uint8

const (
	v1 version = iota
	v2
)

// header is what a PROXY protocol header says.
type header struct {
	version     version
	own         bool // LOCAL or UNKNOWN: the addresses are those of the socket
	source, dst netip.AddrPort
	tlvs        []meta.TLV // views of what was parsed
	size        int        // bytes of the header, extensions included
}

// verdict is what the first bytes of a connection are.
type verdict uint8

const (
	more    verdict = iota // cannot tell yet
	none                   // no PROXY protocol header
	endless                // what begins like one of version 1 and has no end
	wrong                  // one that cannot be understood
	found
)

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	max1       = 107 // bytes of a header of version 1, the end of its line included
	fixed2     = 16  // bytes of a header of version 2 before the addresses
)

// allowed says which versions are looked for.
type allowed struct{ v1, v2 bool }

// parse looks for a header in the first bytes of a connection, which may be cut
// anywhere. With the verdict more, need tells how many bytes are needed to get further.
// With wrong, h.version tells the version that it would have been.
func parse(b []byte, a allowed) (h header, v verdict, need int) {
	is1, is2 := a.v1 && begins(b, signature1), a.v2 && begins(b, signature2)
	switch {
	case !is1 && !is2:
		return h, none, 0
	case is2 && len(b) >= len(signature2):
		return parse2(b)
	case is1 && len(b) >= len(signature1):
		return parse1(b)
	}
	return h, more, len(b) + 1
}

// begins reports whether b is the beginning of sig, or begins with it.
func begins(b []byte, sig string) bool {
	n := min(len(b), len(sig))
	return string(b[:n]) == sig[:n]
}

// parse1 parses "PROXY TCP4 source destination port port\r\n".
func parse1(b []byte) (h header, v verdict, need int) {
	end := bytes.Index(b, []byte("\r\n"))
	switch {
	case end < 0 && len(b) >= max1, end+2 > max1:
		return h, endless, 0
	case end < 0:
		return h, more, len(b) + 1
	}
	h.size = end + 2
	words := strings.Fields(string(b[len(signature1):end]))
	if len(words) > 0 && words[0] == "UNKNOWN" {
		h.own = true
		return h, found, 0
	}
	if len(words) != 5 || words[0] != "TCP4" && words[0] != "TCP6" {
		return h, wrong, 0
	}
	ok1, ok2 := false, false
	h.source, ok1 = endpoint(words[1], words[3], words[0] == "TCP4")
	h.dst, ok2 = endpoint(words[2], words[4], words[0] == "TCP4")
	if !ok1 || !ok2 {
		return h, wrong, 0
	}
	return h, found, 0
}

func endpoint(ip, port string, four bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(ip)
	if err != nil || a.Is4() != four || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(a, uint16(n)), err == nil && unicast(a)
}

// unicast reports whether a is an address that a connection can have.
func unicast(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// parse2 parses a header of version 2, whose signature is there.
func parse2(b []byte) (h header, v verdict, need int) {
	h.version = v2
	if len(b) < fixed2 {
		return h, more, fixed2
	}
	command, family := b[12], b[13]
	length := int(binary.BigEndian.Uint16(b[14:]))
	h.size = fixed2 + length
	h.own = command&0x0f == 0
	addresses := 0
	switch {
	case command>>4 != 2, command&0x0f > 1:
		return h, wrong, 0
	case h.own:
	case family&0x0f != 1 && family&0x0f != 2: // neither stream nor datagram
		return h, wrong, 0
	case family>>4 == 1:
		addresses = 12
	case family>>4 == 2:
		addresses = 36
	default:
		return h, wrong, 0
	}
	switch {
	case length < addresses:
		return h, wrong, 0
	case len(b) < h.size:
		return h, more, h.size
	case h.own:
		return h, found, 0
	}
	return h.read2(b[fixed2:h.size], addresses)
}

func (h header) read2(b []byte, addresses int) (header, verdict, int) {
	ip := (addresses - 4) / 2
	a1, _ := netip.AddrFromSlice(b[:ip])
	a2, _ := netip.AddrFromSlice(b[ip : 2*ip])
	if !unicast(a1) || !unicast(a2) {
		return h, wrong, 0
	}
	h.source = netip.AddrPortFrom(a1, binary.BigEndian.Uint16(b[2*ip:]))
	h.dst = netip.AddrPortFrom(a2, binary.BigEndian.Uint16(b[2*ip+2:]))
	for rest := b[addresses:]; len(rest) > 0; {
		if len(rest) < 3 {
			return h, wrong, 0
		}
		n := int(binary.BigEndian.Uint16(rest[1:]))
		if len(rest) < 3+n {
			return h, wrong, 0
		}
		h.tlvs = append(h.tlvs, meta.TLV{Type: rest[0], Value: rest[3 : 3+n]})
		rest = rest[3+n:]
	}
	return h, found, 0
}
