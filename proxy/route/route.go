package route

import (
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// Kind is what a route does.
type Kind uint8

// The kinds.
const (
	Forward Kind = iota
	Redirect
	Direct
)

// Route is one route of a virtual host, compiled: immutable, shared by all streams.
// It implements filter.Route. A route with weighted clusters is a Route for each
// cluster; which one is decided when the route is matched.
type Route struct {
	RouteName   string
	VirtualHost *VirtualHost
	Kind        Kind
	Forward     *ForwardAction  // of a Forward
	Redirect    *RedirectAction // of a Redirect
	Direct      *DirectAction   // of a Direct
	StatPrefix  string
	Metadata    map[string]map[string]any // filter_metadata; numbers are float64, as in JSON
	Decorator   *Decorator                // nil: none
	Tracing     *trace.Route              // nil: none

	Limits            ratelimit.Limits // rate_limits
	IncludeHostLimits bool             // include_vh_rate_limits
	// Stats are those of stat_prefix, nil without one.
	Stats *Stats

	// RequestMutations and ResponseMutations are in the order in which they apply.
	RequestMutations, ResponseMutations []*mutate.Headers
	// Overrides are the per-filter configurations, those of less specific levels first.
	PerFilter []PerFilter

	path  match.Path    // what of the path a prefix rewrite replaces
	reply *filter.Reply // of a Redirect or Direct, nil for others: there are many
}

// PerFilter is what one level says about one filter (typed_per_filter_config).
type PerFilter struct {
	Slot     filter.Slot
	Config   any  // as filter.Parser.Override returned it; nil: none
	Disabled bool // false switches on a filter that is off in its chain
}

// ForwardAction sends the request to a cluster (RouteAction).
type ForwardAction struct {
	Cluster       string // one of these three is set
	ClusterHeader string // lower case
	NoCluster     bool   // the route leads nowhere (non_forwarding_action)

	NotFoundCode int // cluster_not_found_response_code: 503 unless set
	Priority     cluster.Priority

	Timeouts
	Retry        *RetryPolicy // nil is none
	TimeoutRetry bool         // include_is_timeout_retry_header

	WeightedHost      string              // host_rewrite_literal of the weighted cluster: what the route sees as the host
	HostRewrite       string              // host_rewrite_literal
	HostRewriteHeader string              // host_rewrite_header, lower case
	HostRewritePath   *match.Substitution // host_rewrite_path_regex, on the path
	HostFormat        *accesslog.Format   // host_rewrite; what comes out empty changes nothing
	AutoHostRewrite   bool                // auto_host_rewrite: the router calls RewriteHost
	AppendXFH         bool                // append_x_forwarded_host
	PrefixRewrite     string
	RegexRewrite      *match.Substitution
	TemplateRewrite   *match.TemplateRewrite // path_rewrite_policy
	PathFormat        *accesslog.Format      // path_rewrite; what comes out empty changes nothing

	Upgrades []Upgrade
	// ConnectTerminate answers CONNECT itself and sends the payload as raw TCP, that of
	// CONNECT-UDP as datagrams (connect_config).
	ConnectTerminate bool
	ConnectPost      bool // allow_post: the body of a POST, too
	ConnectProxy     int  // version of a PROXY protocol header in front of it (proxy_protocol_config); 0 is none
	AttemptCount     bool // include_request_attempt_count
	AttemptCountBack bool // include_attempt_count_in_response
	HedgeOnTimeout   bool // hedge_policy.hedge_on_per_try_timeout
	Mirrors          []*Mirror
	HashPolicies     []HashPolicy
	Redirect         *InternalRedirect // nil: redirects are passed on
	Match            cluster.Labels    // metadata_match, of hosts
	// BodyLimit is how much of a request body is kept, for another attempt or a mirror
	// (request_body_buffer_limit, per_request_buffer_limit_bytes), unless BodyLimitSet is
	// false.
	BodyLimit    int
	BodyLimitSet bool
}

// Terminates reports whether the payload of a request is sent as raw TCP, or as datagrams.
func (a *ForwardAction) Terminates(m *header.Map) bool {
	if !a.ConnectTerminate {
		return false
	}
	method := m.Value(header.Method)
	return method == "CONNECT" || a.ConnectPost && method == "POST" || filter.AsksUDP(m)
}

// Upgrade is one of upgrade_configs.
type Upgrade struct {
	Type    string // lower case
	Enabled bool
}

// RedirectAction answers with another location (RedirectAction).
type RedirectAction struct {
	Code         int    // 301 unless set
	Scheme       string // scheme_redirect, "https" for https_redirect; "": the request's
	Host         string // host_redirect; "": the request's
	Port         uint32 // port_redirect; 0: that of the host
	Path         string // path_redirect, maybe with a query
	Prefix       string // prefix_rewrite
	RegexRewrite *match.Substitution
	PathFormat   *accesslog.Format // path_rewrite; what comes out empty changes nothing
	StripQuery   bool
}

// DirectAction answers by itself (DirectResponseAction).
type DirectAction struct {
	Code        int
	Body        string
	Format      *accesslog.Format // body_format; Body is %LOCAL_REPLY_BODY% in it
	ContentType string            // of Format, "" for what suits it
}

// Name implements filter.Route.
func (r *Route) Name() string { return r.RouteName }

// Override implements filter.Route.
func (r *Route) Override(s filter.Slot) any {
	for i := len(r.PerFilter) - 1; i >= 0; i-- {
		if p := &r.PerFilter[i]; p.Slot == s && p.Config != nil {
			return p.Config
		}
	}
	return nil
}

// Overrides implements filter.Route.
func (r *Route) Overrides(s filter.Slot, yield func(any) bool) {
	for i := range r.PerFilter {
		if p := &r.PerFilter[i]; p.Slot == s && p.Config != nil && !yield(p.Config) {
			return
		}
	}
}

// Disabled implements filter.Route.
func (r *Route) Disabled(s filter.Slot) (disabled, set bool) {
	for i := len(r.PerFilter) - 1; i >= 0; i-- {
		if r.PerFilter[i].Slot == s {
			return r.PerFilter[i].Disabled, true
		}
	}
	return false, false
}

// Upgrade says whether the route has a say in that type of upgrade.
func (r *Route) Upgrade(typ string) (enabled, set bool) {
	if r.Forward == nil {
		return false, false
	}
	for _, u := range r.Forward.Upgrades {
		if u.Type == typ {
			return u.Enabled, true
		}
	}
	return false, false
}

// ClusterName returns the cluster for a request, "" if the request does not name one.
// The string is lent as long as the request head is.
func (r *Route) ClusterName(s *filter.Stream) string {
	if r.Forward == nil {
		return ""
	}
	if h := r.Forward.ClusterHeader; h != "" {
		return s.Request.Get(h)
	}
	return r.Forward.Cluster
}

// DirectReply is the answer of a Direct route. It is shared and not to be changed.
func (r *Route) DirectReply(s *filter.Stream) *filter.Reply {
	if r.Direct.Format == nil {
		return r.reply
	}
	s.ReplyBody = r.Direct.Body
	formatted := *r.reply
	formatted.Body = string(r.Direct.Format.Append(nil, s.LogEntry()))
	return &formatted
}

// RedirectReply is the answer of a Redirect route. It is shared and not to be changed.
func (r *Route) RedirectReply(*filter.Stream) *filter.Reply { return r.reply }

// complete makes what of the route does not depend on the request.
func (r *Route) complete() {
	switch r.Kind {
	case Direct:
		r.reply = &filter.Reply{Code: r.Direct.Code, Body: r.Direct.Body, Details: "direct_response"}
		if typ := r.Direct.contentType(); typ != "" {
			r.reply.Header = []header.Field{{Name: "content-type", Value: typ, ID: header.ContentType}}
		}
	case Redirect:
		r.reply = &filter.Reply{Code: r.Redirect.Code, Details: "direct_response"}
	default:
		return
	}
	r.reply.Modify = r.modifyReply
}

// contentType is that of a formatted body, "" for the usual one.
func (d *DirectAction) contentType() string {
	if d.Format != nil && d.Format.IsJSON() && d.ContentType == "" {
		return "application/json"
	}
	return d.ContentType
}

// Dress returns the answer of whoever serves a Forward route, with the number of attempts
// if the route wants that. It allocates: it is for failures.
func (r *Route) Dress(answer *filter.Reply) *filter.Reply {
	if !r.Forward.AttemptCountBack || answer.Modify != nil {
		return answer
	}
	dressed := *answer
	dressed.Modify = r.modifyReply
	return &dressed
}

func (r *Route) modifyReply(s *filter.Stream) {
	switch {
	case r.Kind == Redirect, r.Kind == Direct && (r.Direct.Code == 201 || r.Direct.Code/100 == 3):
		s.Response.SetID(header.Location, r.location(s))
	case r.Kind == Forward && r.Forward.AttemptCountBack:
		s.Response.SetInt(header.XEnvoyAttemptCount, int64(s.Meta.Attempts))
		return
	}
	for _, h := range r.ResponseMutations {
		h.Apply(&s.Response, s)
	}
}

// FinalizeReply applies the response mutations of all levels to an answer of the proxy
// itself, if the route leads to a cluster. There is no status code yet that they could see.
func (r *Route) FinalizeReply(s *filter.Stream) {
	if r.Kind != Forward {
		return
	}
	for _, h := range r.ResponseMutations {
		h.Apply(&s.Response, s)
	}
}
