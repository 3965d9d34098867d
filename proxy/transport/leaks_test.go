package transport

import (
	"fmt"
	"os"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// TestMain fails the package when a test has left a slab behind; only the build tag
// "invariants" knows.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, stack := range buffer.Leaks() {
		fmt.Fprintf(os.Stderr, "a slab was not released, it was taken by\n%s\n", stack)
		code = 1
	}
	os.Exit(code)
}
