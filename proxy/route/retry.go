package route

import (
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/match"
)

// RetryPolicy says when a request is tried again (RetryPolicy).
type RetryPolicy struct {
	On                 RetryOn
	Retries            uint32 // num_retries, 1 unless set
	PerTry, PerTryIdle time.Duration
	Base, Max          time.Duration // back-off: 25 ms and ten times Base unless set
	Codes              []int         // retriable_status_codes
	PreviousHosts      bool          // retry_host_predicate
	HostAttempts       int           // host_selection_retry_max_attempts, 1 unless set
	RetriableHeaders   match.Headers // of the response: any of them
	RequestHeaders     match.Headers // retriable_request_headers: any of them; none allows every request
}

// RetryOn is a set of retry conditions.
type RetryOn uint32

// The conditions.
const (
	On5xx RetryOn = 1 << iota
	OnGatewayError
	OnReset
	OnResetBeforeRequest
	OnConnectFailure
	OnEnvoyRatelimited
	OnRetriable4xx
	OnRefusedStream
	OnRetriableStatusCodes
	OnRetriableHeaders
	OnHTTP3PostConnectFailure
	OnCancelled
	OnDeadlineExceeded
	OnInternal
	OnResourceExhausted
	OnUnavailable
)

// condition returns the condition of that name, 0 if there is none.
func condition(name string) RetryOn {
	switch name {
	case "5xx":
		return On5xx
	case "gateway-error":
		return OnGatewayError
	case "reset":
		return OnReset
	case "reset-before-request":
		return OnResetBeforeRequest
	case "connect-failure":
		return OnConnectFailure
	case "envoy-ratelimited":
		return OnEnvoyRatelimited
	case "retriable-4xx":
		return OnRetriable4xx
	case "refused-stream":
		return OnRefusedStream
	case "retriable-status-codes":
		return OnRetriableStatusCodes
	case "retriable-headers":
		return OnRetriableHeaders
	case "http3-post-connect-failure":
		return OnHTTP3PostConnectFailure
	case "cancelled":
		return OnCancelled
	case "deadline-exceeded":
		return OnDeadlineExceeded
	case "internal":
		return OnInternal
	case "resource-exhausted":
		return OnResourceExhausted
	case "unavailable":
		return OnUnavailable
	}
	return 0
}

// ParseRetryOn reads a comma-separated list of retry conditions; unknown ones are ignored.
func ParseRetryOn(list string) RetryOn {
	var on RetryOn
	for name := range strings.SplitSeq(list, ",") {
		on |= condition(strings.Trim(name, " \t"))
	}
	return on
}

// UnknownRetryOn returns the conditions of a list that ParseRetryOn ignores.
func UnknownRetryOn(list string) (unknown []string) {
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.Trim(name, " \t"); name != "" && condition(name) == 0 {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// ParseCodes reads a comma-separated list of status codes; what is none is ignored.
func ParseCodes(list string) (codes []int) {
	for item := range strings.SplitSeq(list, ",") {
		if n, err := strconv.ParseUint(strings.Trim(item, " \t"), 10, 16); err == nil {
			codes = append(codes, int(n))
		}
	}
	return codes
}
