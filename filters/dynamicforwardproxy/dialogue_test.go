package dynamicforwardproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/dynamicforwardproxy"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func TestDialogues(t *testing.T) { filtertest.Dialogues(t, dynamicforwardproxy.Spec) }

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, dynamicforwardproxy.Spec) }
