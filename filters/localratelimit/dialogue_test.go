package localratelimit_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/localratelimit"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, localratelimit.Spec) }

// TestWholeProxy plays the filters of connections.
func TestWholeProxy(t *testing.T) { dialogue.Mecha(t, "testdata/whole/*.txt") }
