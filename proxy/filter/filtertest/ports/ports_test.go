package ports

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestFree: no port is given twice while its test runs, all can be listened on, and what
// somebody listens on or another process has reserved isn't given.
func TestFree(t *testing.T) {
	if other := os.Getenv("MECHA_TEST_PORT"); other != "" { // the other process
		port, _ := strconv.Atoi(other)
		t.Logf("reserved: %t", reserve(t, port))
		return
	}
	seen := map[int]bool{}
	for _, port := range FreeN(t, 200) {
		if seen[port] || port < first || port >= first+count {
			t.Fatalf("port %d: given before: %t", port, seen[port])
		}
		seen[port] = true
		if reserve(t, port) {
			t.Fatalf("port %d can be reserved again", port)
		}
	}
	given := Free(t)
	asked := exec.Command(os.Args[0], "-test.run", "^TestFree$", "-test.v")
	asked.Env = append(os.Environ(), "MECHA_TEST_PORT="+strconv.Itoa(given))
	out, err := asked.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "reserved: false") {
		t.Errorf("another process and a port that was given: %v\n%s", err, out)
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: given})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if unused(given) {
		t.Errorf("port %d is listened on and unused", given)
	}
}

// TestGivenBack: a port is free again when its test has ended.
func TestGivenBack(t *testing.T) {
	var port int
	t.Run("inner", func(t *testing.T) { port = Free(t) })
	if !reserve(t, port) {
		t.Errorf("port %d is still reserved", port)
	}
}
