// Package filters is the list of all filters. Adding one is one folder and one line here.
package filters

import (
	"github.com/mecha-mesh/mecha/filters/adaptiveconcurrency"
	"github.com/mecha-mesh/mecha/filters/admissioncontrol"
	"github.com/mecha-mesh/mecha/filters/apikeyauth"
	"github.com/mecha-mesh/mecha/filters/bandwidthlimit"
	"github.com/mecha-mesh/mecha/filters/basicauth"
	"github.com/mecha-mesh/mecha/filters/breaker"
	"github.com/mecha-mesh/mecha/filters/buffering"
	"github.com/mecha-mesh/mecha/filters/compressor"
	"github.com/mecha-mesh/mecha/filters/connectionlimit"
	"github.com/mecha-mesh/mecha/filters/cors"
	"github.com/mecha-mesh/mecha/filters/credentialinjector"
	"github.com/mecha-mesh/mecha/filters/csrf"
	"github.com/mecha-mesh/mecha/filters/customresponse"
	"github.com/mecha-mesh/mecha/filters/decompressor"
	"github.com/mecha-mesh/mecha/filters/directresponse"
	"github.com/mecha-mesh/mecha/filters/dnsfilter"
	"github.com/mecha-mesh/mecha/filters/dynamicforwardproxy"
	"github.com/mecha-mesh/mecha/filters/echo"
	"github.com/mecha-mesh/mecha/filters/extauthz"
	"github.com/mecha-mesh/mecha/filters/extproc"
	"github.com/mecha-mesh/mecha/filters/fault"
	"github.com/mecha-mesh/mecha/filters/grpchttp1bridge"
	"github.com/mecha-mesh/mecha/filters/grpchttp1reversebridge"
	"github.com/mecha-mesh/mecha/filters/grpcjsontranscoder"
	"github.com/mecha-mesh/mecha/filters/grpcstats"
	"github.com/mecha-mesh/mecha/filters/grpcweb"
	"github.com/mecha-mesh/mecha/filters/hcm"
	"github.com/mecha-mesh/mecha/filters/headermutation"
	"github.com/mecha-mesh/mecha/filters/headertometadata"
	"github.com/mecha-mesh/mecha/filters/healthcheck"
	"github.com/mecha-mesh/mecha/filters/httpinspector"
	"github.com/mecha-mesh/mecha/filters/idempotency"
	"github.com/mecha-mesh/mecha/filters/jsontometadata"
	"github.com/mecha-mesh/mecha/filters/jwtauthn"
	"github.com/mecha-mesh/mecha/filters/localratelimit"
	"github.com/mecha-mesh/mecha/filters/lua"
	"github.com/mecha-mesh/mecha/filters/oauth2"
	"github.com/mecha-mesh/mecha/filters/ondemand"
	"github.com/mecha-mesh/mecha/filters/originaldst"
	"github.com/mecha-mesh/mecha/filters/originalsrc"
	"github.com/mecha-mesh/mecha/filters/proxyprotocol"
	"github.com/mecha-mesh/mecha/filters/ratelimit"
	"github.com/mecha-mesh/mecha/filters/rbac"
	"github.com/mecha-mesh/mecha/filters/redisproxy"
	"github.com/mecha-mesh/mecha/filters/router"
	"github.com/mecha-mesh/mecha/filters/setfilterstate"
	"github.com/mecha-mesh/mecha/filters/setmetadata"
	"github.com/mecha-mesh/mecha/filters/snicluster"
	"github.com/mecha-mesh/mecha/filters/tcpproxy"
	"github.com/mecha-mesh/mecha/filters/tlsinspector"
	"github.com/mecha-mesh/mecha/filters/udpproxy"
	"github.com/mecha-mesh/mecha/filters/wasm"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// All returns the descriptors of every filter in this build.
func All() []filter.Descriptor {
	return []filter.Descriptor{
		// listener filters
		httpinspector.Spec,
		localratelimit.Listener,
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
		extauthz.Network,
		fault.Network,
		hcm.Spec,
		localratelimit.Network,
		ratelimit.Network,
		rbac.Network,
		setfilterstate.Spec,
		snicluster.Spec,
		redisproxy.Spec,
		tcpproxy.Spec,
		wasm.Network,

		// HTTP filters
		adaptiveconcurrency.Spec,
		admissioncontrol.Spec,
		apikeyauth.Spec,
		bandwidthlimit.Spec,
		basicauth.Spec,
		breaker.Spec,
		idempotency.Spec,
		buffering.Spec,
		compressor.Spec,
		cors.Spec,
		credentialinjector.Spec,
		csrf.Spec,
		customresponse.Spec,
		decompressor.Spec,
		dynamicforwardproxy.Spec,
		extauthz.Spec,
		extproc.Spec,
		fault.Spec,
		grpchttp1bridge.Spec,
		grpchttp1reversebridge.Spec,
		grpcjsontranscoder.Spec,
		grpcstats.Spec,
		grpcweb.Spec,
		headermutation.Spec,
		headertometadata.Spec,
		healthcheck.Spec,
		jsontometadata.Spec,
		jwtauthn.Spec,
		localratelimit.Spec,
		lua.Spec,
		oauth2.Spec,
		ondemand.Spec,
		ratelimit.Spec,
		rbac.Spec,
		router.Spec,
		setfilterstate.HTTP,
		setmetadata.Spec,
		wasm.Spec,
	}
}
