package cluster

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

func addrAt(ip string) meta.Addr {
	return meta.Addr{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(ip), 80)}
}

func TestAddressesTakeTurnsByFamily(t *testing.T) {
	for _, tc := range []struct {
		e          Eyeballs
		addrs, out string
	}{
		{Eyeballs{}, "1.1.1.1 2.2.2.2 ::1 ::2 3.3.3.3", "1.1.1.1 ::1 2.2.2.2 ::2 3.3.3.3"},
		{Eyeballs{}, "::1 ::2 ::3 1.1.1.1", "::1 1.1.1.1 ::2 ::3"},
		{Eyeballs{First: V4Only}, "::1 ::2 1.1.1.1 2.2.2.2", "1.1.1.1 ::1 2.2.2.2 ::2"},
		{Eyeballs{First: V6Only, Count: 2}, "1.1.1.1 2.2.2.2 ::1 ::2 ::3", "::1 ::2 1.1.1.1 ::3 2.2.2.2"},
		{Eyeballs{First: V6Only, Count: 9}, "1.1.1.1 2.2.2.2", "1.1.1.1 2.2.2.2"},
		{Eyeballs{Count: 9}, "1.1.1.1 ::1 2.2.2.2", "1.1.1.1 2.2.2.2 ::1"},
		{Eyeballs{First: V6Only}, "1.1.1.1", "1.1.1.1"},
	} {
		h := &Host{}
		for i, ip := range strings.Fields(tc.addrs) {
			if i == 0 {
				h.Addr = addrAt(ip)
			} else {
				h.extra = append(h.extra, addrAt(ip))
			}
		}
		var got []string
		for _, a := range tc.e.sort(h) {
			got = append(got, a.Addr().String())
		}
		if s := strings.Join(got, " "); s != tc.out {
			t.Errorf("%+v sorts %s to %s, want %s", tc.e, tc.addrs, s, tc.out)
		}
	}
}
