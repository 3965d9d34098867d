package route

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// RetryPolicy says when a request is tried again (RetryPolicy).
type RetryPolicy struct {
	On                 RetryOn
	Retries            uint32 // num_retries, 1 unless set
	PerTry, PerTryIdle time.Duration
	Backoff            backoff.Policy // retry_back_off: 25 ms and ten times that unless set
	Codes              []int          // retriable_status_codes
	Hosts              HostPredicates
	Reset              []ResetHeader // rate_limited_retry_back_off
	ResetMax           time.Duration // the longest wait that a host may ask for, 5 min unless set
	RetriableHeaders   match.Headers // of the response: any of them
	HeaderNames        []string      // x-envoy-retriable-header-names: any of them, lower case
	RequestHeaders     match.Headers // retriable_request_headers: any of them; none allows every request
	// PriorityEvery is after how many attempts the priorities of those hosts are left out
	// (retry_priority, previous_priorities); 0 is never.
	PriorityEvery int
}

// HostPredicates say which hosts a retry goes round (retry_host_predicate).
type HostPredicates struct {
	Previous bool           // those of earlier attempts
	Canary   bool           // those whose metadata says canary
	Omit     cluster.Labels // those with all of these labels; nil: none
	Attempts int            // host_selection_retry_max_attempts, 1 unless set
}

// Any reports whether there is a predicate.
func (h *HostPredicates) Any() bool { return h.Previous || h.Canary || len(h.Omit) > 0 }

// ResetHeader is a response header that says when to come back.
type ResetHeader struct {
	Name string // lower case
	Unix bool   // it is a time, in seconds since 1970, rather than a number of seconds
}

// Wait returns how long the headers of a response ask to wait, as of now.
func (p *RetryPolicy) Wait(m *header.Map, now time.Time) (d time.Duration, ok bool) {
	for _, h := range p.Reset {
		v, found := m.Find(h.Name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(v, 10, 62)
		if err != nil {
			continue
		}
		if h.Unix {
			if n <= uint64(now.Unix()) {
				continue
			}
			n -= uint64(now.Unix())
		}
		if n > uint64(p.ResetMax/time.Second) {
			continue
		}
		return time.Duration(n) * time.Second, true
	}
	return 0, false
}

// Merge returns the policy that a route's and the headers of a request make together; p
// may be nil, and is not changed. It takes the headers out of the request
// (x-envoy-retry-on, -retry-grpc-on, -max-retries, -retriable-status-codes,
// -retriable-header-names).
func (p *RetryPolicy) Merge(m *header.Map) *RetryPolicy {
	byHeader := false
	for _, id := range retryHeaders {
		byHeader = byHeader || m.Has(id)
	}
	if !byHeader {
		if p == nil || len(p.RequestHeaders) > 0 && !p.RequestHeaders.Any(m) {
			return nil
		}
		return p
	}
	own := RetryPolicy{Retries: 1, Backoff: backoff.Policy{Base: 25 * time.Millisecond, Max: 250 * time.Millisecond}}
	if p != nil {
		own = *p
	}
	own.On |= parseConditions(m.Value(header.XEnvoyRetryOn), HTTPConditions)
	own.On |= parseConditions(m.Value(header.XEnvoyRetryGrpcOn), GRPCConditions)
	if n, err := strconv.ParseUint(m.Value(header.XEnvoyMaxRetries), 10, 32); err == nil {
		own.Retries = uint32(n)
	}
	own.Codes = append(own.Codes[:len(own.Codes):len(own.Codes)], ParseCodes(m.Value(header.XEnvoyRetriableStatusCodes))...)
	for name := range strings.SplitSeq(m.Value(header.XEnvoyRetriableHeaderNames), ",") {
		if name = strings.Trim(name, " \t"); name != "" {
			own.HeaderNames = append(own.HeaderNames[:len(own.HeaderNames):len(own.HeaderNames)], strings.ToLower(name))
		}
	}
	allowed := len(own.RequestHeaders) == 0 || own.RequestHeaders.Any(m)
	for _, id := range retryHeaders {
		m.DelID(id)
	}
	if own.On == 0 || !allowed {
		return nil
	}
	return &own
}

var retryHeaders = [...]header.ID{
	header.XEnvoyRetryOn, header.XEnvoyRetryGrpcOn, header.XEnvoyMaxRetries,
	header.XEnvoyRetriableStatusCodes, header.XEnvoyRetriableHeaderNames,
}

// Covers reports whether the policy covers a response with that status code.
func (p *RetryPolicy) Covers(m *header.Map, code int) bool {
	if m.Has(header.XEnvoyRatelimited) {
		return p.On&OnEnvoyRatelimited != 0
	}
	switch {
	case code >= 500 && p.On&On5xx != 0,
		code >= 502 && code <= 504 && p.On&OnGatewayError != 0,
		code == 409 && p.On&OnRetriable4xx != 0,
		p.On&OnRetriableStatusCodes != 0 && slices.Contains(p.Codes, code),
		p.On&OnRetriableHeaders != 0 && p.coversHeaders(m):
		return true
	}
	return p.On&GRPCConditions != 0 && p.On&grpcCondition(m.Value(header.GrpcStatus)) != 0
}

func (p *RetryPolicy) coversHeaders(m *header.Map) bool {
	return p.RetriableHeaders.Any(m) || slices.ContainsFunc(p.HeaderNames, func(name string) bool {
		_, ok := m.Find(name)
		return ok
	})
}

// grpcCondition is the condition that a grpc-status is covered by.
func grpcCondition(status string) RetryOn {
	switch status {
	case "1":
		return OnCancelled
	case "4":
		return OnDeadlineExceeded
	case "8":
		return OnResourceExhausted
	case "13":
		return OnInternal
	case "14":
		return OnUnavailable
	}
	return 0
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

	// GRPCConditions are those that x-envoy-retry-grpc-on knows, HTTPConditions those of
	// x-envoy-retry-on.
	GRPCConditions RetryOn = OnCancelled | OnDeadlineExceeded | OnInternal | OnResourceExhausted | OnUnavailable
	HTTPConditions RetryOn = OnCancelled - 1
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
	return parseConditions(list, HTTPConditions|GRPCConditions)
}

func parseConditions(list string, allowed RetryOn) (on RetryOn) {
	for name := range strings.SplitSeq(list, ",") {
		on |= condition(strings.Trim(name, " \t"))
	}
	return on & allowed
}

// UnknownRetryOn returns what in a list is not one of the allowed conditions.
func UnknownRetryOn(list string, allowed RetryOn) (unknown []string) {
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.Trim(name, " \t"); name != "" && condition(name)&allowed == 0 {
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
