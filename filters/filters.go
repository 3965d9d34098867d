// Package filters is the list of all filters. Adding one is one folder and one line here.
package filters

import (
	"github.com/mecha-mesh/mecha/filters/connectionlimit"
	"github.com/mecha-mesh/mecha/filters/directresponse"
	"github.com/mecha-mesh/mecha/filters/dnsfilter"
	"github.com/mecha-mesh/mecha/filters/dynamicforwardproxy"
	"github.com/mecha-mesh/mecha/filters/echo"
	"github.com/mecha-mesh/mecha/filters/hcm"
	"github.com/mecha-mesh/mecha/filters/headermutation"
	"github.com/mecha-mesh/mecha/filters/httpinspector"
	"github.com/mecha-mesh/mecha/filters/ondemand"
	"github.com/mecha-mesh/mecha/filters/originaldst"
	"github.com/mecha-mesh/mecha/filters/originalsrc"
	"github.com/mecha-mesh/mecha/filters/proxyprotocol"
	"github.com/mecha-mesh/mecha/filters/router"
	"github.com/mecha-mesh/mecha/filters/setfilterstate"
	"github.com/mecha-mesh/mecha/filters/snicluster"
	"github.com/mecha-mesh/mecha/filters/tcpproxy"
	"github.com/mecha-mesh/mecha/filters/tlsinspector"
	"github.com/mecha-mesh/mecha/filters/udpproxy"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// All returns the descriptors of every filter in this build.
func All() []filter.Descriptor {
	return []filter.Descriptor{
		// listener filters
		httpinspector.Spec,
		originaldst.Spec,
		originalsrc.Spec,
		proxyprotocol.Spec,
		tlsinspector.Spec,

		// filters of UDP listeners
		dnsfilter.Spec,
		udpproxy.Spec,

		// network filters
		connectionlimit.Spec,
		directresponse.Spec,
		dynamicforwardproxy.SNI,
		echo.Spec,
		hcm.Spec,
		setfilterstate.Spec,
		snicluster.Spec,
		tcpproxy.Spec,

		// HTTP filters
		dynamicforwardproxy.Spec,
		headermutation.Spec,
		ondemand.Spec,
		router.Spec,
		setfilterstate.HTTP,
	}
}
