package connectionlimit_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/connectionlimit"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzNetworkParse(f, connectionlimit.Spec) }
