package header

// ID is the index of a well-known header name; 0 is every other name.
type ID uint8

// The well-known names, in the spelling that Name returns. Looking one up by ID
// needs no comparison of strings.
const (
	Other                              ID = iota
	Method                                // :method
	Path                                  // :path
	Authority                             // :authority
	Scheme                                // :scheme
	Status                                // :status
	Protocol                              // :protocol
	Host                                  // host
	ContentLength                         // content-length
	TransferEncoding                      // transfer-encoding
	Connection                            // connection
	KeepAlive                             // keep-alive
	ProxyConnection                       // proxy-connection
	Upgrade                               // upgrade
	Te                                    // te
	Trailer                               // trailer
	Expect                                // expect
	Date                                  // date
	Server                                // server
	ContentType                           // content-type
	UserAgent                             // user-agent
	Accept                                // accept
	AcceptEncoding                        // accept-encoding
	Cookie                                // cookie
	SetCookie                             // set-cookie
	Location                              // location
	Via                                   // via
	RetryAfter                            // retry-after
	XRequestId                            // x-request-id
	XForwardedFor                         // x-forwarded-for
	XForwardedProto                       // x-forwarded-proto
	XForwardedHost                        // x-forwarded-host
	XForwardedPort                        // x-forwarded-port
	XForwardedClientCert                  // x-forwarded-client-cert
	XEnvoyUpstreamServiceTime             // x-envoy-upstream-service-time
	XEnvoyAttemptCount                    // x-envoy-attempt-count
	XEnvoyExpectedRqTimeoutMs             // x-envoy-expected-rq-timeout-ms
	XEnvoyUpstreamRqTimeoutMs             // x-envoy-upstream-rq-timeout-ms
	XEnvoyUpstreamRqPerTryTimeoutMs       // x-envoy-upstream-rq-per-try-timeout-ms
	XEnvoyMaxRetries                      // x-envoy-max-retries
	XEnvoyRetryOn                         // x-envoy-retry-on
	XEnvoyRetryGrpcOn                     // x-envoy-retry-grpc-on
	XEnvoyRetriableStatusCodes            // x-envoy-retriable-status-codes
	XEnvoyRetriableHeaderNames            // x-envoy-retriable-header-names
	XEnvoyOriginalPath                    // x-envoy-original-path
	XEnvoyOriginalHost                    // x-envoy-original-host
	XEnvoyInternal                        // x-envoy-internal
	XEnvoyExternalAddress                 // x-envoy-external-address
	XEnvoyOverloaded                      // x-envoy-overloaded
	XEnvoyRatelimited                     // x-envoy-ratelimited
	XEnvoyDecoratorOperation              // x-envoy-decorator-operation
	XEnvoyForceTrace                      // x-envoy-force-trace
	XEnvoyIPTags                          // x-envoy-ip-tags
	XEnvoyHedgeOnPerTryTimeout            // x-envoy-hedge-on-per-try-timeout
	XEnvoyIsTimeoutRetry                  // x-envoy-is-timeout-retry
	XEnvoyDownstreamServiceCluster        // x-envoy-downstream-service-cluster
	XEnvoyDownstreamServiceNode           // x-envoy-downstream-service-node
	XEnvoyImmediateHealthCheckFail        // x-envoy-immediate-health-check-fail
	XEnvoyDegraded                        // x-envoy-degraded
	GrpcTimeout                           // grpc-timeout
	GrpcStatus                            // grpc-status
	GrpcMessage                           // grpc-message
	Http2Settings                         // http2-settings
	CacheControl                          // cache-control
	Etag                                  // etag
	Authorization                         // authorization
	Traceparent                           // traceparent
	IdempotencyKey                        // idempotency-key
	XEnvoyUpstreamAltStatName             // x-envoy-upstream-alt-stat-name
	XEnvoyUpstreamRqTimeoutAltResponse    // x-envoy-upstream-rq-timeout-alt-response
	XEnvoyUpstreamStreamDurationMs        // x-envoy-upstream-stream-duration-ms
	XEnvoyUpstreamCanary                  // x-envoy-upstream-canary
	known                                 // number of IDs
)

var names = [known]string{
	Method:                             ":method",
	Path:                               ":path",
	Authority:                          ":authority",
	Scheme:                             ":scheme",
	Status:                             ":status",
	Protocol:                           ":protocol",
	Host:                               "host",
	ContentLength:                      "content-length",
	TransferEncoding:                   "transfer-encoding",
	Connection:                         "connection",
	KeepAlive:                          "keep-alive",
	ProxyConnection:                    "proxy-connection",
	Upgrade:                            "upgrade",
	Te:                                 "te",
	Trailer:                            "trailer",
	Expect:                             "expect",
	Date:                               "date",
	Server:                             "server",
	ContentType:                        "content-type",
	UserAgent:                          "user-agent",
	Accept:                             "accept",
	AcceptEncoding:                     "accept-encoding",
	Cookie:                             "cookie",
	SetCookie:                          "set-cookie",
	Location:                           "location",
	Via:                                "via",
	RetryAfter:                         "retry-after",
	XRequestId:                         "x-request-id",
	XForwardedFor:                      "x-forwarded-for",
	XForwardedProto:                    "x-forwarded-proto",
	XForwardedHost:                     "x-forwarded-host",
	XForwardedPort:                     "x-forwarded-port",
	XForwardedClientCert:               "x-forwarded-client-cert",
	XEnvoyUpstreamServiceTime:          "x-envoy-upstream-service-time",
	XEnvoyAttemptCount:                 "x-envoy-attempt-count",
	XEnvoyExpectedRqTimeoutMs:          "x-envoy-expected-rq-timeout-ms",
	XEnvoyUpstreamRqTimeoutMs:          "x-envoy-upstream-rq-timeout-ms",
	XEnvoyUpstreamRqPerTryTimeoutMs:    "x-envoy-upstream-rq-per-try-timeout-ms",
	XEnvoyMaxRetries:                   "x-envoy-max-retries",
	XEnvoyRetryOn:                      "x-envoy-retry-on",
	XEnvoyRetryGrpcOn:                  "x-envoy-retry-grpc-on",
	XEnvoyRetriableStatusCodes:         "x-envoy-retriable-status-codes",
	XEnvoyRetriableHeaderNames:         "x-envoy-retriable-header-names",
	XEnvoyOriginalPath:                 "x-envoy-original-path",
	XEnvoyOriginalHost:                 "x-envoy-original-host",
	XEnvoyInternal:                     "x-envoy-internal",
	XEnvoyExternalAddress:              "x-envoy-external-address",
	XEnvoyOverloaded:                   "x-envoy-overloaded",
	XEnvoyRatelimited:                  "x-envoy-ratelimited",
	XEnvoyDecoratorOperation:           "x-envoy-decorator-operation",
	XEnvoyForceTrace:                   "x-envoy-force-trace",
	XEnvoyIPTags:                       "x-envoy-ip-tags",
	XEnvoyHedgeOnPerTryTimeout:         "x-envoy-hedge-on-per-try-timeout",
	XEnvoyIsTimeoutRetry:               "x-envoy-is-timeout-retry",
	XEnvoyDownstreamServiceCluster:     "x-envoy-downstream-service-cluster",
	XEnvoyDownstreamServiceNode:        "x-envoy-downstream-service-node",
	XEnvoyImmediateHealthCheckFail:     "x-envoy-immediate-health-check-fail",
	XEnvoyDegraded:                     "x-envoy-degraded",
	GrpcTimeout:                        "grpc-timeout",
	GrpcStatus:                         "grpc-status",
	GrpcMessage:                        "grpc-message",
	Http2Settings:                      "http2-settings",
	CacheControl:                       "cache-control",
	Etag:                               "etag",
	Authorization:                      "authorization",
	Traceparent:                        "traceparent",
	IdempotencyKey:                     "idempotency-key",
	XEnvoyUpstreamAltStatName:          "x-envoy-upstream-alt-stat-name",
	XEnvoyUpstreamRqTimeoutAltResponse: "x-envoy-upstream-rq-timeout-alt-response",
	XEnvoyUpstreamStreamDurationMs:     "x-envoy-upstream-stream-duration-ms",
	XEnvoyUpstreamCanary:               "x-envoy-upstream-canary",
}

// Name returns the lower-case name of a well-known header, "" for Other.
func (id ID) Name() string { return names[id] }

// Lookup returns the ID of a lower-case name, Other if it is not a well-known one.
func Lookup(name string) ID {
	switch name {
	case ":method":
		return Method
	case ":path":
		return Path
	case ":authority":
		return Authority
	case ":scheme":
		return Scheme
	case ":status":
		return Status
	case ":protocol":
		return Protocol
	case "host":
		return Host
	case "content-length":
		return ContentLength
	case "transfer-encoding":
		return TransferEncoding
	case "connection":
		return Connection
	case "keep-alive":
		return KeepAlive
	case "proxy-connection":
		return ProxyConnection
	case "upgrade":
		return Upgrade
	case "te":
		return Te
	case "trailer":
		return Trailer
	case "expect":
		return Expect
	case "date":
		return Date
	case "server":
		return Server
	case "content-type":
		return ContentType
	case "user-agent":
		return UserAgent
	case "accept":
		return Accept
	case "accept-encoding":
		return AcceptEncoding
	case "cookie":
		return Cookie
	case "set-cookie":
		return SetCookie
	case "location":
		return Location
	case "via":
		return Via
	case "retry-after":
		return RetryAfter
	case "x-request-id":
		return XRequestId
	case "x-forwarded-for":
		return XForwardedFor
	case "x-forwarded-proto":
		return XForwardedProto
	case "x-forwarded-host":
		return XForwardedHost
	case "x-forwarded-port":
		return XForwardedPort
	case "x-forwarded-client-cert":
		return XForwardedClientCert
	case "x-envoy-upstream-service-time":
		return XEnvoyUpstreamServiceTime
	case "x-envoy-attempt-count":
		return XEnvoyAttemptCount
	case "x-envoy-expected-rq-timeout-ms":
		return XEnvoyExpectedRqTimeoutMs
	case "x-envoy-upstream-rq-timeout-ms":
		return XEnvoyUpstreamRqTimeoutMs
	case "x-envoy-upstream-rq-per-try-timeout-ms":
		return XEnvoyUpstreamRqPerTryTimeoutMs
	case "x-envoy-max-retries":
		return XEnvoyMaxRetries
	case "x-envoy-retry-on":
		return XEnvoyRetryOn
	case "x-envoy-retry-grpc-on":
		return XEnvoyRetryGrpcOn
	case "x-envoy-retriable-status-codes":
		return XEnvoyRetriableStatusCodes
	case "x-envoy-retriable-header-names":
		return XEnvoyRetriableHeaderNames
	case "x-envoy-original-path":
		return XEnvoyOriginalPath
	case "x-envoy-original-host":
		return XEnvoyOriginalHost
	case "x-envoy-internal":
		return XEnvoyInternal
	case "x-envoy-external-address":
		return XEnvoyExternalAddress
	case "x-envoy-overloaded":
		return XEnvoyOverloaded
	case "x-envoy-ratelimited":
		return XEnvoyRatelimited
	case "x-envoy-decorator-operation":
		return XEnvoyDecoratorOperation
	case "x-envoy-force-trace":
		return XEnvoyForceTrace
	case "x-envoy-ip-tags":
		return XEnvoyIPTags
	case "x-envoy-hedge-on-per-try-timeout":
		return XEnvoyHedgeOnPerTryTimeout
	case "x-envoy-is-timeout-retry":
		return XEnvoyIsTimeoutRetry
	case "x-envoy-downstream-service-cluster":
		return XEnvoyDownstreamServiceCluster
	case "x-envoy-downstream-service-node":
		return XEnvoyDownstreamServiceNode
	case "x-envoy-immediate-health-check-fail":
		return XEnvoyImmediateHealthCheckFail
	case "x-envoy-degraded":
		return XEnvoyDegraded
	case "grpc-timeout":
		return GrpcTimeout
	case "grpc-status":
		return GrpcStatus
	case "grpc-message":
		return GrpcMessage
	case "http2-settings":
		return Http2Settings
	case "cache-control":
		return CacheControl
	case "etag":
		return Etag
	case "authorization":
		return Authorization
	case "traceparent":
		return Traceparent
	case "idempotency-key":
		return IdempotencyKey
	case "x-envoy-upstream-alt-stat-name":
		return XEnvoyUpstreamAltStatName
	case "x-envoy-upstream-rq-timeout-alt-response":
		return XEnvoyUpstreamRqTimeoutAltResponse
	case "x-envoy-upstream-canary":
		return XEnvoyUpstreamCanary
	case "x-envoy-upstream-stream-duration-ms":
		return XEnvoyUpstreamStreamDurationMs
	}
	return Other
}
