package netio

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// inNamespace moves the test to a network namespace of its own, on a thread that
// ends with the test.
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
	for _, c := range [][]string{{"ip", "link", "set", "lo", "up"}, {nft, "-f", "-"}} {
		cmd := exec.Command(c[0], c[1:]...)
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("%v: %s", err, out)
		}
	}
}

func TestOriginalDstRedirect(t *testing.T) {
	inNamespace(t, `
table inet m {
	chain o {
		type nat hook output priority -100;
		tcp dport 8080 redirect to :15001
	}
}`)
	for _, family := range []struct{ listen, to string }{
		{"0.0.0.0:15001", "127.0.0.9:8080"},
		{"[::]:15001", "[::1]:8080"},
	} {
		l, err := Listen(ListenOptions{Addr: ip(family.listen)})
		if err != nil {
			t.Fatal(err)
		}
		_, server := exchange(t, l, ip(family.to))
		if got, ok := OriginalDst(server); !ok || got != ip(family.to) {
			t.Errorf("redirected: %v, %v, want %s", got, ok, family.to)
		}
		direct := netip.AddrPortFrom(netip.MustParseAddrPort(family.to).Addr(), 15001)
		_, server = exchange(t, l, meta.Addr{AddrPort: direct})
		if got, ok := OriginalDst(server); ok && got.AddrPort != direct {
			t.Errorf("not redirected: %v", got)
		}
		l.Close()
	}
	both, err := Listen(ListenOptions{Addr: ip("[::]:15001"), DualStack: true})
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	_, server := exchange(t, both, ip("127.0.0.9:8080"))
	if got, ok := OriginalDst(server); !ok || got != ip("127.0.0.9:8080") {
		t.Errorf("IPv4 at a dual-stack socket: %v, %v", got, ok)
	}
}

func TestOriginalDstTransparent(t *testing.T) {
	inNamespace(t, `table inet m {}`)
	if out, err := exec.Command("ip", "route", "add", "local", "192.0.2.0/24", "dev", "lo").CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	l := listen(t, ListenOptions{Addr: ip("0.0.0.0:15001"), Transparent: true})
	_, server := exchange(t, l, ip("192.0.2.7:15001"))
	if got, ok := OriginalDst(server); !ok || got != ip("192.0.2.7:15001") {
		t.Errorf("got %v, %v", got, ok)
	}
}

func TestOriginalDstOfNothing(t *testing.T) {
	_, b := pair(t, "unix")
	if _, ok := OriginalDst(b); ok {
		t.Error("a unix socket was redirected")
	}
}
