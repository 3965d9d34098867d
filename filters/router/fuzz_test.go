package router_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/router"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzParse(f, router.Spec) }
