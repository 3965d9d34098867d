package filter

import (
	"net/netip"
	"strconv"
)

// ObjectFactory makes an object of filter state out of its text; false if the text is none
// of its kind. Objects are kept as their text: who reads them knows what they are.
type ObjectFactory func(text string) (object any, ok bool)

// ObjectFactoryOf returns the factory of a name, which is the key of the objects that it is
// for, or one of general use; nil if there is none.
func ObjectFactoryOf(name string) ObjectFactory {
	switch name {
	case "envoy.string", "envoy.hashable_string", "envoy.tcp_proxy.cluster",
		"envoy.network.upstream_server_name", "envoy.network.application_protocols", "envoy.network.upstream_subject_alt_names",
		"envoy.upstream.dynamic_host":
		return func(text string) (any, bool) { return text, true }
	case "envoy.network.ip":
		return func(text string) (any, bool) {
			_, err := netip.ParseAddr(text)
			return text, err == nil
		}
	case "envoy.network.transport_socket.original_dst_address",
		"envoy.filters.listener.original_dst.local_ip", "envoy.filters.listener.original_dst.remote_ip":
		return func(text string) (any, bool) {
			_, err := netip.ParseAddrPort(text)
			return text, err == nil
		}
	case "envoy.upstream.dynamic_port":
		return number(1, 65535)
	case "envoy.tcp_proxy.per_connection_idle_timeout_ms", "envoy.ratelimit.hits_addend":
		return number(0, 1<<32-1)
	}
	return nil
}

func number(least, most uint64) ObjectFactory {
	return func(text string) (any, bool) {
		n, err := strconv.ParseUint(text, 10, 64)
		return text, err == nil && n >= least && n <= most
	}
}
