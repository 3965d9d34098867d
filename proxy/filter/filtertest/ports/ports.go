// Package ports gives tests ports to start programs on.
//
// A port that the kernel chose and that a test gave back is any connection's next source
// port, or the next test's; so these come from below the range the kernel takes (32768 up),
// and stay taken, for all test processes of the machine, until the test that asked has ended.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// The ports that are given: 10,000 to 29,999.
const first, count = 10_000, 20_000

// Free returns a port on which nobody listens, over TCP or UDP, at any address of the
// machine. Until the test has ended no other call returns it, in this process or another.
func Free(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := first + rand.IntN(count)
		if reserve(t, port) {
			return port
		}
	}
	t.Fatal("no free port among 1000")
	return 0
}

// FreeN returns n of what Free does, all different.
func FreeN(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		ports[i] = Free(t)
	}
	return ports
}

// reserve takes the port's name for the test, if nobody has it and nobody listens. The name
// is an abstract unix socket's: it lives in the network namespace, as ports do, and goes with
// the process that holds it, however that ends.
func reserve(t testing.TB, port int) bool {
	name, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@mecha-test-port-%d", port)})
	if err != nil {
		return false
	}
	if !unused(port) {
		name.Close()
		return false
	}
	t.Cleanup(func() { name.Close() })
	return true
}

// unused reports whether the port can be bound at every address.
func unused(port int) bool {
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.ListenTCP(network, &net.TCPAddr{Port: port})
		if err != nil && !(network == "tcp6" && !hasIPv6()) {
			return false
		}
		if err == nil {
			l.Close()
		}
	}
	for _, network := range []string{"udp4", "udp6"} {
		c, err := net.ListenUDP(network, &net.UDPAddr{Port: port})
		if err != nil && !(network == "udp6" && !hasIPv6()) {
			return false
		}
		if err == nil {
			c.Close()
		}
	}
	return true
}

func hasIPv6() bool {
	c, err := net.ListenUDP("udp6", nil)
	if err == nil {
		c.Close()
	}
	return err == nil
}
