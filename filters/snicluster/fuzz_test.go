package snicluster_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/snicluster"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzNetworkParse(f, snicluster.Spec) }
