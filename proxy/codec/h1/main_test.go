package h1

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// TestMain fails the run if a test kept a slab (with -tags invariants).
func TestMain(m *testing.M) {
	code := m.Run()
	if leaks := buffer.Leaks(); code == 0 && len(leaks) > 0 {
		fmt.Printf("%d slabs leaked, the first was taken at\n%s\n", len(leaks), leaks[0])
		code = 1
	}
	os.Exit(code)
}

// TestSize keeps an idle connection small: it holds no slab, so this is all of it
// besides the socket.
func TestSize(t *testing.T) {
	if n := unsafe.Sizeof(ServerConn{}); n > 1024 {
		t.Errorf("a ServerConn has %d bytes, want at most 1024", n)
	}
	if n := unsafe.Sizeof(ClientConn{}); n > 1024 {
		t.Errorf("a ClientConn has %d bytes, want at most 1024", n)
	}
	t.Logf("ServerConn %d, ClientConn %d, Buf %d bytes", unsafe.Sizeof(ServerConn{}), unsafe.Sizeof(ClientConn{}), unsafe.Sizeof(buffer.Buf{}))
}
