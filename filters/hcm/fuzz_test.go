package hcm_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/hcm"
	"github.com/mecha-mesh/mecha/filters/router"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzNetworkParse(f, hcm.Spec, router.Spec) }
