package dnsproxy

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
)

const (
	serverPort = 53
	maxServers = 8 // resolv.conf(5) has 3; what containers get may be more
	maxSearch  = 32
)

// ReadResolvConf returns the resolvers and search domains of a resolv.conf.
func ReadResolvConf(path string) (servers []netip.AddrPort, search []string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("dnsproxy: %w", err)
	}
	servers, search = parseResolvConf(b)
	return servers, search, nil
}

func parseResolvConf(b []byte) (servers []netip.AddrPort, search []string) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(servers) < maxServers {
				servers = append(servers, netip.AddrPortFrom(a.Unmap(), serverPort))
			}
		case "domain", "search":
			search = nil
			for _, d := range f[1:min(len(f), maxSearch+1)] {
				if d = strings.ToLower(strings.Trim(d, ".")); d != "" {
					search = append(search, d)
				}
			}
		}
	}
	return servers, search
}
