package rbac_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/rbac"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, rbac.Spec) }

// TestWholeProxy plays what takes more than the filter: connections, TLS.
func TestWholeProxy(t *testing.T) { dialogue.Mecha(t, "testdata/whole/*.txt") }
