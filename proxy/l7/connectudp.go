package l7

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// udpPath is where the target of CONNECT-UDP stands in a path: the default template of RFC
// 9298, section 2.
const udpPath = "/.well-known/masque/udp/"

// aimUDP makes the target of a CONNECT-UDP request its authority, so that it is routed by
// where it leads, as CONNECT is. It reports whether the path names a target.
func (st *stream) aimUDP() bool {
	m := &st.Request
	authority, ok := udpTarget(m.Value(header.Path))
	if ok {
		m.SetID(header.Authority, authority)
	}
	return ok
}

// udpTarget returns host and port of a path in the form of udpPath.
func udpTarget(path string) (authority string, ok bool) {
	rest, ok := strings.CutPrefix(path, udpPath)
	if !ok {
		return "", false
	}
	host, rest, _ := strings.Cut(rest, "/")
	port, rest, ok := strings.Cut(rest, "/")
	if !ok || rest != "" && rest[0] != '?' {
		return "", false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", false
	}
	host, err := url.PathUnescape(host)
	if err != nil || host == "" {
		return "", false
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "[" + host + "]:" + port, true
	}
	for i := range len(host) {
		if c := host[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("/:@?#[]", c) >= 0 {
			return "", false
		}
	}
	return host + ":" + port, true
}
