package redisproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

func TestDialogues(t *testing.T) { dialogue.Mecha(t, "testdata/*.txt") }
