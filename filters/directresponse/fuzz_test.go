package directresponse_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/directresponse"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzNetworkParse(f, directresponse.Spec) }
