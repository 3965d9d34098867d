package cluster

import (
	"strings"
)

// OverrideSource is where OverrideHostLB finds the addresses of hosts, comma-separated:
// a request header, or a string of the request's dynamic metadata.
type OverrideSource struct {
	Header    string
	Namespace string
	Path      []string
}

// overrideHosts picks the hosts that a request names, one after the other with each
// pick, and leaves the choice to another policy when there are no more.
type overrideHosts struct {
	set    *hostSet
	policy *Policy
	next   balancer
}

func (o *overrideHosts) fallback() balancer {
	if o == nil {
		return nil
	}
	return o.next
}

// pick chooses a host; nil if there is none. Health does not count for one that is named.
func (o *overrideHosts) pick(a *Attempt, attempt int) (h *Host, panicked bool) {
	if a == nil {
		return o.next.pick(a, attempt)
	}
	n := 0
	for i := range o.policy.Override {
		for rest := o.policy.Override[i].of(a); rest != ""; {
			var addr string
			addr, rest, _ = strings.Cut(rest, ",")
			if addr = strings.TrimSpace(addr); addr == "" {
				continue
			}
			if n++; n <= a.named {
				continue
			}
			a.named = n
			if h := o.set.at(addr); h != nil {
				return h, true
			}
		}
	}
	return o.next.pick(a, attempt)
}

// of returns what a source says, "" for nothing.
func (s *OverrideSource) of(a *Attempt) string {
	switch {
	case s.Header != "" && a.Headers != nil:
		return a.Headers.Get(s.Header)
	case s.Header == "" && a.Metadata != nil:
		v, _ := a.Metadata.Find(s.Namespace, s.Path...)
		text, _ := v.(string)
		return text
	}
	return ""
}
