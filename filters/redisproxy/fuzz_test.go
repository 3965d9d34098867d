package redisproxy_test

import (
	"testing"

	"github.com/mecha-mesh/mecha/filters/redisproxy"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest"
)

func FuzzParse(f *testing.F) { filtertest.FuzzNetworkParse(f, redisproxy.Spec) }
