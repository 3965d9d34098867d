package l7

import (
	"net/netip"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// prepareRequest checks the request head and makes of it what filters and upstream
// are to see: address, protocol and identity headers, path and host normalised.
func (st *stream) prepareRequest() error {
	m := &st.Request
	method := m.Value(header.Method)
	if !m.Has(header.Authority) {
		return &replyNoHost
	}
	if method == "QUERY" && !m.Has(header.ContentType) {
		return &replyQuery
	}
	if method != "CONNECT" {
		switch path := m.Value(header.Path); {
		case path == "":
			return &replyMissingPath
		case path[0] != '/':
			st.m.counters.RqNonRelative.Inc()
			return &replyAbsolutePath
		}
		if filter.AsksUDP(m) && !st.aimUDP() {
			return &replyUDPTarget
		}
		if err := st.normalizePath(); err != nil {
			return err
		}
	}
	st.normalizeHost()
	for _, f := range st.m.spec.Early {
		f(&st.Stream)
	}
	if err := st.setForwarded(); err != nil {
		return err
	}
	st.setRequestID()
	st.setClientCert() // after whatever might bring one
	if st.m.spec.AddUserAgent {
		st.addUserAgent(m)
	}
	if via := st.m.spec.Via; via != "" {
		st.appendVia(m, via)
	}
	if m.Has(header.Expect) && strings.EqualFold(m.Value(header.Expect), "100-continue") && !st.m.spec.Proxy100Continue {
		m.DelID(header.Expect)
		return st.sendContinue()
	}
	return nil
}

// sendContinue asks the client for the body at once, as it waits for this.
func (st *stream) sendContinue() error {
	if st.next.get() == codec.End {
		return nil
	}
	var m header.Map
	m.AddID(header.Status, "100")
	if err := st.down.WriteHeaders(&m, false); err != nil {
		return st.unsent(err)
	}
	if err := st.down.Flush(); err != nil {
		return st.unsent(err)
	}
	return nil
}

func (st *stream) normalizeHost() {
	m, spec := &st.Request, st.m.spec
	host := m.Value(header.Authority)
	if spec.StripDot {
		host = stripDot(m, host)
	}
	switch spec.StripPort {
	case StripAnyPort:
		host = stripPort(host, 0)
	case StripMatchingPort:
		host = stripPort(host, st.Conn.Local.Port())
	}
	if host != m.Value(header.Authority) {
		m.SetID(header.Authority, host)
	}
}

// stripPort removes ":port" from a host; only that port, unless it is 0.
func stripPort(host string, only uint16) string {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.IndexByte(host[i:], ']') >= 0 {
		return host
	}
	if n, ok := parsePort(host[i+1:]); !ok || only != 0 && n != only {
		return host
	}
	return host[:i]
}

func parsePort(s string) (uint16, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || n > 65535 {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), len(s) > 0 && n <= 65535
}

func stripDot(m *header.Map, host string) string {
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		name, port = host[:i], host[i:]
	}
	trimmed := strings.TrimSuffix(name, ".")
	if trimmed == name {
		return host
	}
	if port == "" {
		return trimmed
	}
	return m.Concat(trimmed, port)
}

// addUserAgent says which proxy of which cluster this is.
func (st *stream) addUserAgent(m *header.Map) {
	if c := st.m.node.Cluster; c != "" {
		m.SetID(header.XEnvoyDownstreamServiceCluster, c)
		if !m.Has(header.UserAgent) {
			m.AddID(header.UserAgent, c)
		}
	}
	if id := st.m.node.ID; id != "" {
		m.SetID(header.XEnvoyDownstreamServiceNode, id)
	}
}

// appendVia adds the proxy's own entry to what Via fields there are (RFC 9110 7.6.3).
func (st *stream) appendVia(m *header.Map, via string) {
	if old := m.Value(header.Via); old != "" {
		via = m.Concat(old, ", ", via)
	}
	m.SetID(header.Via, via)
}

// setForwarded sets who the client is and how it came (x-forwarded-for, -proto,
// -port, x-envoy-internal, x-envoy-external-address) and drops what outsiders may
// not set.
func (st *stream) setForwarded() error {
	m, spec := &st.Request, st.m.spec
	remote := st.Conn.Remote.AddrPort.Addr()
	internal, edge := false, false
	st.joinXFF()
	defer func() { st.setClient(remote) }()
	if spec.UseRemoteAddress {
		direct := remote
		alone := !m.Has(header.XForwardedFor)
		if spec.TrustedHops > 0 {
			if addr, _ := lastTrusted(m.Value(header.XForwardedFor), spec.TrustedHops-1); addr.IsValid() {
				remote = addr
			}
		}
		internal = alone && st.isInternal(remote)
		edge = !internal
		if direct.IsValid() && !spec.SkipXFFAppend {
			st.appendXFF(direct)
		}
		if spec.TrustedHops == 0 || !m.Has(header.XForwardedProto) {
			m.SetID(header.XForwardedProto, st.scheme())
		}
	} else if spec.Detect != nil {
		d := st.detect()
		switch {
		case d.Reject != 0:
			st.m.counters.RqRejected.Inc()
			return &filter.Reply{Code: d.Reject, Details: "rejecting_because_detection_failed"}
		case d.Append && remote.IsValid():
			st.appendXFF(remote)
		}
		if d.Addr.IsValid() {
			remote, internal = d.Addr, d.Trusted && st.isInternal(d.Addr)
		}
	} else {
		addr, single := lastTrusted(m.Value(header.XForwardedFor), spec.TrustedHops)
		if addr.IsValid() {
			remote = addr
		}
		internal = single && st.isInternal(remote)
	}
	if !m.Has(header.XForwardedProto) {
		m.AddID(header.XForwardedProto, st.scheme())
	}
	if spec.AppendXForwardedPort && !m.Has(header.XForwardedPort) {
		m.SetInt(header.XForwardedPort, int64(st.Conn.Local.Port()))
	}
	switch {
	case spec.Scheme != "":
		m.SetID(header.Scheme, spec.Scheme)
	case m.Value(header.Scheme) == "":
		m.SetID(header.Scheme, m.Value(header.XForwardedProto))
	}
	if internal {
		m.SetID(header.XEnvoyInternal, "true")
		return nil
	}
	m.DelID(header.XEnvoyInternal)
	dropInternal(m, edge)
	st.dropListed()
	if edge && remote.IsValid() {
		m.SetID(header.XEnvoyExternalAddress, m.Format(remote.AppendTo))
	}
	return nil
}

// scheme is how the client has come to this proxy.
func (st *stream) scheme() string {
	if ports := st.m.spec.ForwardProto; ports != nil && st.Conn.LocalRestored {
		if scheme := ports[st.Conn.Local.Port()]; scheme != "" {
			return scheme
		}
	}
	if st.Conn.TLS != nil {
		return "https"
	}
	return "http"
}

// setClient makes an address that is not the connection's own the one that filters and
// access logs see. It has no port, which nobody has said.
func (st *stream) setClient(addr netip.Addr) {
	if !addr.IsValid() || addr == st.Conn.Remote.Addr() {
		return
	}
	st.client = *st.Conn
	st.client.Remote = meta.Addr{AddrPort: netip.AddrPortFrom(addr, 0)}
	st.Conn = &st.client
}

// detect asks the extensions for the client's address, in their order.
// Any of those that were asked can want the peer in x-forwarded-for.
func (st *stream) detect() Detection {
	appends := false
	for _, f := range st.m.spec.Detect {
		d := f(&st.Stream)
		appends = appends || d.Append
		if d.Reject != 0 || d.Addr.IsValid() {
			d.Append = appends
			return d
		}
	}
	return Detection{Append: appends}
}

func (st *stream) isInternal(a netip.Addr) bool {
	return st.m.spec.IsInternal != nil && st.m.spec.IsInternal(a)
}

// joinXFF makes one list of several x-forwarded-for fields: who is last counts.
func (st *stream) joinXFF() {
	m := &st.Request
	if !m.Has(header.XForwardedFor) || m.Count("x-forwarded-for") == 1 {
		return
	}
	m.SetID(header.XForwardedFor, m.Format(func(dst []byte) []byte {
		n := len(dst)
		for v := range m.Values("x-forwarded-for") {
			if len(dst) > n {
				dst = append(dst, ',')
			}
			dst = append(dst, v...)
		}
		return dst
	}))
}

func (st *stream) appendXFF(remote netip.Addr) {
	m := &st.Request
	old := m.Value(header.XForwardedFor)
	m.SetID(header.XForwardedFor, m.Format(func(dst []byte) []byte {
		if old != "" {
			dst = append(append(dst, old...), ',')
		}
		return remote.AppendTo(dst)
	}))
}

// LastTrusted returns the address hops places from the right of x-forwarded-for, and
// whether it is the only one there. The zero address says that there is none.
func LastTrusted(m *header.Map, hops uint32) (addr netip.Addr, single bool) {
	return lastTrusted(m.Value(header.XForwardedFor), hops)
}

// lastTrusted returns the address hops places from the right of an x-forwarded-for
// list, and whether it is the only one in the list.
func lastTrusted(list string, hops uint32) (addr netip.Addr, single bool) {
	if list == "" {
		return netip.Addr{}, false
	}
	rest := list
	for ; hops > 0; hops-- {
		i := strings.LastIndexByte(rest, ',')
		if i < 0 {
			return netip.Addr{}, false
		}
		rest = rest[:i]
	}
	last := rest[strings.LastIndexByte(rest, ',')+1:]
	addr, err := netip.ParseAddr(strings.TrimSpace(last))
	if err != nil {
		return netip.Addr{}, false
	}
	return addr, strings.IndexByte(list, ',') < 0
}

var (
	edgeOnly = [...]header.ID{
		header.XEnvoyDecoratorOperation, header.XEnvoyDownstreamServiceCluster,
		header.XEnvoyDownstreamServiceNode, header.XEnvoyOriginalPath,
	}
	internalOnly = [...]header.ID{
		header.XEnvoyRetriableStatusCodes, header.XEnvoyRetriableHeaderNames, header.XEnvoyRetryOn,
		header.XEnvoyRetryGrpcOn, header.XEnvoyMaxRetries, header.XEnvoyUpstreamAltStatName,
		header.XEnvoyUpstreamRqTimeoutMs, header.XEnvoyUpstreamRqPerTryTimeoutMs,
		header.XEnvoyUpstreamRqTimeoutAltResponse, header.XEnvoyExpectedRqTimeoutMs,
		header.XEnvoyForceTrace, header.XEnvoyIPTags, header.XEnvoyHedgeOnPerTryTimeout,
	}
)

// dropInternal removes the headers by which only trusted callers steer the proxy.
func dropInternal(m *header.Map, edge bool) {
	if edge {
		for _, id := range edgeOnly {
			m.DelID(id)
		}
	}
	for _, id := range internalOnly {
		if m.Has(id) {
			m.DelID(id)
		}
	}
}

// internalOnlyTable is a route table with headers of its own that outsiders may not send
// (RouteConfiguration.internal_only_headers).
type internalOnlyTable interface {
	InternalOnly(s *filter.Stream) []string
}

// dropListed removes the headers that the route table reserves for callers from inside.
func (st *stream) dropListed() {
	t, ok := st.m.routes.Current().(internalOnlyTable)
	if !ok {
		return
	}
	for _, name := range t.InternalOnly(&st.Stream) {
		st.Request.Del(name)
	}
}

// setRequestID gives the request an ID unless it brings one that may stay.
func (st *stream) setRequestID() {
	m, spec := &st.Request, st.m.spec
	if spec.NoRequestID {
		return
	}
	edge := spec.UseRemoteAddress && m.Value(header.XEnvoyInternal) == ""
	if m.Has(header.XRequestId) && (!edge || spec.KeepExternalRequestID) {
		if edge {
			spec.RequestID.Set(m, trace.NotTraceable) // outsiders do not decide
		}
		return
	}
	m.SetID(header.XRequestId, m.Format(appendUUID))
}

// checkUpgrade decides whether an upgrade or CONNECT is allowed, and hides an
// upgrade that is not.
func (st *stream) checkUpgrade() error {
	m := &st.Request
	switch {
	case m.Value(header.Method) == "CONNECT":
		st.upgrade = "connect"
	case m.Has(header.Upgrade) && hasToken(m.Value(header.Connection), "upgrade"):
		st.upgrade = strings.ToLower(m.Value(header.Upgrade))
	default:
		return nil
	}
	switch {
	case st.upgradeAllowed():
		st.useChainOf(st.upgrade)
		return nil
	case st.upgrade == "connect" && st.Route == nil:
		return nil // a CONNECT that no route takes is not found rather than forbidden
	}
	st.m.counters.RqWSNoRoute.Inc()
	return &replyUpgrade
}

// upgrader is a route that has a say in upgrades (RouteAction.upgrade_configs).
type upgrader interface {
	Upgrade(typ string) (enabled, set bool)
}

func (st *stream) upgradeAllowed() bool {
	if u, ok := st.Route.(upgrader); ok {
		if enabled, set := u.Upgrade(st.upgrade); set {
			return enabled
		}
	}
	for _, u := range st.m.spec.Upgrades {
		if u.Type == st.upgrade {
			return u.Enabled
		}
	}
	return false
}

// hasToken reports whether a comma-separated list contains a token, ignoring case.
func hasToken(list, token string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(item), token) {
			return true
		}
	}
	return false
}

var _ filter.Engine = (*stream)(nil)
