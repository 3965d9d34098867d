package h2

import (
	"fmt"
	"os"
	"testing"

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
