package setfilterstate_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/setfilterstate"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzNetworkParse(f, setfilterstate.Spec) }

func FuzzParseHTTP(f *testing.F) { filtertest.FuzzParse(f, setfilterstate.HTTP) }
