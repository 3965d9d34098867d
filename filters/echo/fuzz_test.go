package echo_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/echo"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzNetworkParse(f, echo.Spec) }
