package ratelimit

import (
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// obey does what the service says.
func (f *Filter) obey(s *filter.Stream, target *cluster.Cluster, a *answer) error {
	n := countersOf(target, f.StatPrefix)
	for k, v := range a.metadata {
		s.Metadata.Set(f.Namespace, k, v)
	}
	f.response = a.response
	switch a.verdict {
	case within:
		s.Decide("within the limits", f.question.domain)
		n.OK.Inc()
	case failed:
		n.Error.Inc()
		if f.deny.Match(s.Random()) {
			return &filter.Reply{Code: f.StatusOnError, Body: a.body, Details: "rate_limiter_error", Flags: meta.RateLimitServiceError}
		}
		s.Decide("let through without a verdict", f.question.domain)
		n.FailureAllowed.Inc()
		return nil
	case over:
		s.Decide("beyond a limit", f.question.domain)
		n.Over.Inc()
		target.Stats().UpstreamRq.Count(f.Status)
		target.Stats().InternalRq.Count(f.Status)
		if !f.NotLimitedHeader {
			f.response = append(f.response, field{"x-envoy-ratelimited", "true"})
		}
	}
	if f.Headers {
		f.response = append(f.response, quota(a.statuses)...)
	}
	if a.verdict == over && f.enforced.Match(s.Random()) {
		return f.refuse(a)
	}
	addAll(&s.Request, a.request)
	return nil
}

// refuse answers a request that came after too many.
func (f *Filter) refuse(a *answer) *filter.Reply {
	r := &filter.Reply{Code: f.Status, Body: a.body, Details: "request_rate_limited", Flags: meta.RateLimited}
	if f.Exhausted {
		r.GRPC = 8
	}
	add := f.response
	f.response = nil // they are in the reply
	r.Modify = func(s *filter.Stream) {
		m := &s.Response
		for i := range add {
			if add[i].name == "content-type" {
				m.DelID(header.ContentType)
				break
			}
		}
		addAll(m, add)
		f.Response.Apply(m, s)
		if f.RetryAfter && f.Status == 429 && m.Count("retry-after") == 0 {
			if seconds, ok := untilReset(a.statuses); ok {
				m.Add("retry-after", strconv.FormatInt(seconds, 10))
			}
		}
	}
	return r
}

// addAll adds fields. What cannot be written is left out.
func addAll(m *header.Map, list []field) {
	for i := range list {
		if codec.IsToken(list[i].name) && codec.IsFieldValue(list[i].value) {
			m.Add(list[i].name, list[i].value)
		}
	}
}

// untilReset is in how many seconds the last of the limits that were exceeded begins anew.
func untilReset(list []status) (seconds int64, ok bool) {
	seconds = 1
	for i := range list {
		if list[i].over {
			seconds, ok = max(seconds, list[i].reset), true
		}
	}
	return seconds, ok
}

// quota is the fields of draft-polli-ratelimit-headers-03: the limit that is closest, and
// all there are.
func quota(list []status) []field {
	var least *status
	var all []byte
	for i := range list {
		st := &list[i]
		if !st.limited {
			continue
		}
		if least == nil || st.remaining < least.remaining {
			least = st
		}
		if st.window == 0 {
			continue
		}
		all = strconv.AppendUint(append(all, ", "...), uint64(st.requests), 10)
		all = strconv.AppendUint(append(all, ";w="...), st.window, 10)
		if st.name != "" {
			all = append(append(append(all, `;name="`...), st.name...), '"')
		}
	}
	if least == nil {
		return nil
	}
	return []field{
		{"x-ratelimit-limit", strconv.FormatUint(uint64(least.requests), 10) + string(all)},
		{"x-ratelimit-remaining", strconv.FormatUint(uint64(least.remaining), 10)},
		{"x-ratelimit-reset", strconv.FormatInt(least.reset, 10)},
	}
}
