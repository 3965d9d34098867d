package mutate

// joins reports whether a message has at most one field of that name, so that a value
// which is appended goes on after a comma. Everything else gets a field of its own.
// The names are those for which Envoy does so.
func joins(of Message, name string) bool {
	switch name {
	case "cache-control", "content-encoding", "content-type", "content-length", "connection", "keep-alive", "proxy-connection",
		"transfer-encoding", "upgrade", "via", "x-request-id", "x-envoy-attempt-count", "x-envoy-decorator-operation":
		return true
	}
	if of == Response {
		return joinsInResponse(name)
	}
	return joinsInRequest(name)
}

func joinsInRequest(name string) bool {
	switch name {
	case "accept", "accept-encoding", "access-control-request-headers", "access-control-request-method", "authorization",
		"expect", "grpc-timeout", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
		"origin", "pragma", "referer", "te", "user-agent", "x-client-trace-id", "x-envoy-downstream-service-cluster",
		"x-envoy-downstream-service-node", "x-envoy-expected-rq-timeout-ms", "x-envoy-external-address",
		"x-envoy-force-trace", "x-envoy-hedge-on-per-try-timeout", "x-envoy-internal", "x-envoy-ip-tags",
		"x-envoy-is-timeout-retry", "x-envoy-max-retries", "x-envoy-original-host", "x-envoy-original-path",
		"x-envoy-retriable-header-names", "x-envoy-retriable-status-codes", "x-envoy-retry-grpc-on", "x-envoy-retry-on",
		"x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-per-try-timeout-ms",
		"x-envoy-upstream-rq-timeout-alt-response", "x-envoy-upstream-rq-timeout-ms",
		"x-envoy-upstream-stream-duration-ms", "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-host",
		"x-forwarded-port", "x-forwarded-proto":
		return true
	}
	return false
}

func joinsInResponse(name string) bool {
	switch name {
	case "access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods",
		"access-control-allow-origin", "access-control-expose-headers", "access-control-max-age", "age", "date", "etag",
		"expires", "grpc-message", "grpc-status", "last-modified", "location", "proxy-status", "server", "vary",
		"x-envoy-degraded", "x-envoy-immediate-health-check-fail", "x-envoy-overloaded", "x-envoy-ratelimited",
		"x-envoy-upstream-canary", "x-envoy-upstream-healthchecked-cluster", "x-envoy-upstream-service-time":
		return true
	}
	return false
}
