package l4_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// TestDialogues is what listeners do, seen from both sides.
func TestDialogues(t *testing.T) { dialogue.Mecha(t, "testdata/*.txt") }
