package l4

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// inNamespace moves the test to a network namespace of its own with these rules, on
// a thread that ends with the test.
func inNamespace(t *testing.T, rules string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs nft")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip(err)
	}
	for _, c := range [][]string{{"ip", "link", "set", "lo", "up"}, {"ip", "route", "add", "local", "10.0.0.0/8", "dev", "lo"}, {nft, "-f", "-"}} {
		cmd := exec.Command(c[0], c[1:]...)
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s", c, err, out)
		}
	}
}

func who(c *filter.Conn) string {
	return c.Meta.Listener + "/" + c.Meta.FilterChain + " " + c.Meta.Local.String()
}

// whoChain answers with who has taken the connection.
func whoChain(name string, m Match) *Chain {
	return chainOf(name, m, func() filter.Network { return speak{who} })
}

// TestVirtualListeners redirects everything to one bound listener, which hands each
// connection to the listener of its original destination.
func TestVirtualListeners(t *testing.T) {
	inNamespace(t, `
table inet m {
	chain o {
		type nat hook output priority -100;
		tcp dport != 15001 redirect to :15001
	}
}`)
	m := newTestManager(t, Options{})
	seen := make(chan string, 10)
	look := inspects(func(p filter.Peeker) error {
		seen <- p.Meta().Listener
		return nil
	})
	setListener(t, m, &Spec{
		Name: "virtualOutbound", UseOriginalDst: true, Direction: Outbound,
		Addresses: []Address{{Addr: addr("0.0.0.0:15001")}, {Addr: addr("[::]:15001")}},
		Chains:    []*Chain{whoChain("blackhole", Match{DestinationPort: 15001})},
		Default:   whoChain("passthrough", Match{}),
	})
	virtual := func(name, at string) *Spec {
		return &Spec{Name: name, Unbound: true, Filters: []ListenerFilter{look}, Addresses: []Address{{Addr: addr(at)}}, Default: whoChain("c", Match{})}
	}
	exact := virtual("exact", "10.0.0.1:80")
	for _, s := range []*Spec{
		exact, virtual("wild", "0.0.0.0:80"), virtual("wild 6", "[::]:80"), virtual("exact 6", "[::1]:81"),
		{Name: "both", Unbound: true, Addresses: []Address{{Addr: addr("[::]:90"), DualStack: true}}, Default: whoChain("c", Match{})},
		{Name: "extra", Unbound: true, Addresses: []Address{{Addr: addr("10.0.0.3:70")}, {Addr: addr("10.0.0.4:70")}}, Default: whoChain("c", Match{})},
		{Name: "by range", Unbound: true, Addresses: []Address{{Addr: addr("0.0.0.0:60")}}, Chains: []*Chain{
			whoChain("five", Match{PrefixRanges: []netip.Prefix{netip.MustParsePrefix("10.5.0.0/16")}}),
		}},
	} {
		setListener(t, m, s)
	}
	ask := func(to string) string {
		t.Helper()
		c := dialAddr(t, to)
		defer c.Close()
		return said(t, c)
	}
	for to, want := range map[string]string{
		"10.0.0.1:80":  "exact/c 10.0.0.1:80",
		"10.0.0.2:80":  "wild/c 10.0.0.2:80",
		"[::1]:80":     "wild 6/c [::1]:80",
		"[::1]:81":     "exact 6/c [::1]:81",
		"10.0.0.2:90":  "both/c 10.0.0.2:90",
		"[::1]:90":     "both/c [::1]:90",
		"10.0.0.3:70":  "extra/c 10.0.0.3:70",
		"10.0.0.4:70":  "extra/c 10.0.0.4:70",
		"10.0.0.5:70":  "virtualOutbound/passthrough 10.0.0.5:70",
		"10.0.0.1:443": "virtualOutbound/passthrough 10.0.0.1:443",
		"[::1]:443":    "virtualOutbound/passthrough [::1]:443",
		"10.5.0.1:60":  "by range/five 10.5.0.1:60",
		"10.6.0.1:60":  "", // the virtual listener has no chain for it, and there is no way back
		// Not redirected: whoever connects to the proxy itself must not loop.
		"10.0.0.9:15001": "virtualOutbound/blackhole 10.0.0.9:15001",
	} {
		if got := ask(to); got != want {
			t.Errorf("%s: taken by %q, want %q", to, got, want)
		}
	}
	if s := <-seen; s == "virtualOutbound" || s == "" {
		t.Errorf("the listener filters of the virtual listener saw %q", s)
	}
	// As Envoy counts: a connection belongs to the listener whose chain takes it.
	if v := metric(m, "listener.10.0.0.1_80.downstream_cx_total"); v != 1 {
		t.Errorf("the virtual listener has counted %d", v)
	}
	if v := metric(m, "listener.0.0.0.0_60.no_filter_chain_match"); v != 1 {
		t.Errorf("no_filter_chain_match is %d", v)
	}
	eventually(t, m, "listener.0.0.0.0_15001.downstream_cx_total", 4)

	m.Remove("exact")
	if got, want := ask("10.0.0.1:80"), "wild/c 10.0.0.1:80"; got != want {
		t.Errorf("after the exact one was removed: %q, want %q", got, want)
	}
	m.Remove("wild")
	if got, want := ask("10.0.0.1:80"), "virtualOutbound/passthrough 10.0.0.1:80"; got != want {
		t.Errorf("after both were removed: %q, want %q", got, want)
	}
	setListener(t, m, exact)
	if got, want := ask("10.0.0.1:80"), "exact/c 10.0.0.1:80"; got != want {
		t.Errorf("added again: %q, want %q", got, want)
	}
}

func TestRoutingTable(t *testing.T) {
	m := newTestManager(t, Options{})
	for _, s := range []*Spec{
		{Name: "v4", Unbound: true, Addresses: []Address{{Addr: addr("0.0.0.0:80")}}, Default: whoChain("c", Match{})},
		{Name: "dual", Unbound: true, Addresses: []Address{{Addr: addr("[::]:80"), DualStack: true}}, Default: whoChain("c", Match{})},
		{Name: "unix", Unbound: true, Addresses: []Address{{Addr: addr("[::]:81"), DualStack: true}}, Default: whoChain("c", Match{})},
	} {
		setListener(t, m, s)
	}
	for dst, want := range map[string]string{
		"1.2.3.4:80": "v4", "[::ffff:1.2.3.4]:80": "v4", "[fd00::1]:80": "dual", "[fe80::1%eth0]:80": "dual",
		"1.2.3.4:81": "unix", "1.2.3.4:82": "",
	} {
		got := ""
		if l := m.routing.Load().find(netip.MustParseAddrPort(dst)); l != nil {
			got = l.Name()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", dst, got, want)
		}
	}
}
