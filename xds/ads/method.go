package ads

// Method is the full gRPC method of the discovery service for one type, "" where there
// is none: virtual hosts come over delta only.
func Method(typeURL string, v Variant) string {
	service, noun := "", ""
	switch typeURL {
	case ClusterType:
		service, noun = "cluster.v3.ClusterDiscoveryService", "Clusters"
	case EndpointType:
		service, noun = "endpoint.v3.EndpointDiscoveryService", "Endpoints"
	case ListenerType:
		service, noun = "listener.v3.ListenerDiscoveryService", "Listeners"
	case RouteType:
		service, noun = "route.v3.RouteDiscoveryService", "Routes"
	case ScopedRouteType:
		service, noun = "route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes"
	case VirtualHostType:
		if v == SotW {
			return ""
		}
		service, noun = "route.v3.VirtualHostDiscoveryService", "VirtualHosts"
	case SecretType:
		service, noun = "secret.v3.SecretDiscoveryService", "Secrets"
	case RuntimeType:
		service, noun = "runtime.v3.RuntimeDiscoveryService", "Runtime"
	case ExtensionConfigType:
		service, noun = "extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"
	default:
		return ""
	}
	verb := "Stream"
	if v == Delta {
		verb = "Delta"
	}
	return "/envoy.service." + service + "/" + verb + noun
}
