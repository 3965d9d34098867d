package cluster

import (
	"context"
	"maps"
	"net/netip"
	"reflect"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/cluster/health"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// checks are the active health checks of a cluster. They go on through versions of the
// cluster that check in the same way.
type checks struct {
	m       *Manager
	core    *core
	slot    *slot
	config  *health.Config
	checker *health.Checker
	watch   *hostWatch
	logs    []func()

	mu      sync.Mutex
	stopped bool
	ignore  bool               // ignore_new_hosts_until_first_hc
	known   map[meta.Addr]bool // hosts that are well, though their connections may be others now
	waiting map[*endpoint]bool // hosts without a check, of the first round
	round   bool               // the first round is over
}

// SetUnhealthy takes a host out of service that an answer to a request wants out at once
// (x-envoy-immediate-health-check-fail), if it is checked.
func (h *Host) SetUnhealthy() { h.ep.checks.Load().Report() }

// checked reports whether a host is checked at all.
func (h *Host) checked() bool { return h.check == nil || !h.check.Disabled }

// startChecks follows health_checks of a configuration, before its hosts are made. The
// manager's lock is held.
func (co *core) startChecks(m *Manager, s *slot, spec *Spec) {
	old := co.checks
	if old != nil && spec.Checks != nil && reflect.DeepEqual(old.config, spec.Checks) {
		old.mu.Lock()
		old.ignore = spec.IgnoreUnchecked
		old.mu.Unlock()
		return
	}
	co.endChecks(m, spec.Checks == nil)
	if spec.Checks == nil {
		return
	}
	if co.checkStats == nil {
		co.checkStats = &health.Stats{}
		if co.scope != nil {
			co.scope.Child("health_check").Bind(co.checkStats)
		}
	}
	k := &checks{m: m, core: co, slot: s, config: spec.Checks, ignore: spec.IgnoreUnchecked, known: map[meta.Addr]bool{}, waiting: map[*endpoint]bool{}}
	if old != nil {
		k.known, k.round = old.found()
	}
	k.checker = health.NewChecker(spec.Checks, health.Env{
		Stats: co.checkStats, Runtime: m.options.Runtime, Rand: m.rnd, Log: k.openLogs(spec.Name),
		Traffic: func() bool { return co.stats.UpstreamCxTotal.Value() > 0 },
		Begin:   m.work.begin, End: m.work.running.Done,
	})
	k.watch = &hostWatch{HostWatcher: HostWatcher{Begin: k.begin, Changed: k.changed}}
	co.checks = k
	co.watches.add(k.watch) // it is told when the manager's lock is released
}

// found returns the hosts that are well now, and whether the first round is over.
func (k *checks) found() (well map[meta.Addr]bool, round bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.known), k.round
}

// openLogs opens the files of the event log; nil if there are none.
func (k *checks) openLogs(cluster string) func(*health.Event) {
	var writers []func([]byte)
	for _, path := range k.config.LogPaths {
		if k.m.options.HealthLog == nil {
			continue
		}
		write, shut, err := k.m.options.HealthLog(path)
		if err != nil {
			k.m.log.Error("the event log of health checks cannot be opened", "cluster", cluster, "path", path, "error", err)
			continue
		}
		writers, k.logs = append(writers, write), append(k.logs, shut)
	}
	if writers == nil {
		return nil
	}
	return func(e *health.Event) {
		e.Cluster = cluster
		line := e.Line()
		for _, w := range writers {
			w(line)
		}
	}
}

// begin gives a new host its first flags. It is called with locks held.
func (k *checks) begin(h *Host) (f HealthFlags) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !h.checked() || k.known[h.Addr]:
		return 0
	case k.ignore && k.round:
		return FailedActiveHC | PendingActiveHC
	}
	return FailedActiveHC
}

// changed follows the hosts of the cluster.
func (k *checks) changed(added, removed []*Host) {
	for _, h := range removed {
		k.mu.Lock()
		delete(k.known, h.Addr)
		k.mu.Unlock()
		if s := h.ep.checks.Swap(nil); s != nil {
			s.Stop()
		}
		k.seen(h.ep)
	}
	for _, h := range added {
		if h.checked() {
			k.start(h)
		}
	}
	k.mu.Lock()
	over := len(k.waiting) == 0
	k.mu.Unlock()
	if over { // who calls holds a lock of the watch
		k.m.goWork(k.over)
	}
}

func (k *checks) start(h *Host) {
	k.mu.Lock()
	if k.stopped {
		k.mu.Unlock()
		return
	}
	if !k.round {
		k.waiting[h.ep] = true
	}
	k.mu.Unlock()
	target, ep := k.target(h), h.ep
	if h.ep.flags.Load()&uint32(FailedActiveHC) == 0 && !k.knows(h.Addr) && !k.core.has(h) {
		k.core.flag(ep, FailedActiveHC, true) // it was here before there were checks
	}
	var hostname string
	if h.check != nil {
		hostname = h.check.Hostname
	}
	s := k.checker.Start(health.Host{
		Addr: target.Addr, Place: [3]string{h.Region, h.Zone, h.SubZone}, Name: k.core.newest.Load().name, Hostname: hostname,
		Dial:    func(ctx context.Context) (*netio.Conn, error) { return k.dial(ctx, target) },
		Set:     func(set, clear health.Flags) { k.set(ep, h.Addr, set, clear) },
		Checked: func(passed bool) { k.checkedHost(ep, passed) },
	}, healthFlagsOf(HealthFlags(ep.flags.Load())))
	if old := ep.checks.Swap(s); old != nil {
		old.Stop()
	}
}

func (k *checks) knows(a meta.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[a]
}

// target is the host as it is checked: perhaps at another address.
func (k *checks) target(h *Host) *Host {
	t := *h
	t.from = nil
	if c := h.check; c != nil && c.Addr != (meta.Addr{}) {
		t.Addr, t.extra = c.Addr, nil
	}
	port := k.config.Port
	if h.check != nil && h.check.Port != 0 {
		port = h.check.Port
	}
	if port != 0 && t.Addr.AddrPort.IsValid() {
		t.Addr = meta.Addr{AddrPort: netip.AddrPortFrom(t.Addr.AddrPort.Addr(), port)}
		t.extra = nil
	}
	return &t
}

// dial makes a connection for checks. It is not counted among those of the cluster.
func (k *checks) dial(ctx context.Context, h *Host) (*netio.Conn, error) {
	c := k.core.newest.Load()
	s, g := c.Spec(), c.running().group
	socket := s.socketFor(h)
	if len(k.config.SocketMatch) > 0 {
		for i := range s.Sockets {
			if matches(s.Sockets[i].Match, k.config.SocketMatch) {
				socket = s.Sockets[i].Socket
				break
			}
		}
	}
	to := h.peer(nil)
	to.Options.ALPN = k.config.ALPN
	switch {
	case k.config.GRPC != nil, k.config.HTTP != nil && k.config.HTTP.HTTP2:
		to.ALPN = []string{alpnHTTP2}
	case k.config.HTTP != nil:
		to.ALPN = []string{alpnHTTP1}
	}
	sock, err := g.dial(ctx, s, h, socket, &to)
	if err != nil {
		return nil, err
	}
	if _, plain := socket.(transport.Raw); !plain {
		to.Stats = k.core.tlsStats()
	}
	return socket.Client(ctx, sock, &to)
}

// pairs are the flags of a host for those of a session.
var pairs = [...]struct {
	session health.Flags
	host    HealthFlags
}{
	{health.Failed, FailedActiveHC}, {health.Degraded, DegradedActiveHC}, {health.Pending, PendingActiveHC},
	{health.Excluded, ExcludedViaImmediateHCFail}, {health.TimedOut, ActiveHCTimeout},
}

func hostFlagsOf(f health.Flags) (out HealthFlags) {
	for _, p := range pairs {
		if f&p.session != 0 {
			out |= p.host
		}
	}
	return out
}

func healthFlagsOf(f HealthFlags) (out health.Flags) {
	for _, p := range pairs {
		if f&p.host != 0 {
			out |= p.session
		}
	}
	return out
}

// set changes the flags of a host.
func (k *checks) set(ep *endpoint, addr meta.Addr, set, clear health.Flags) {
	k.mu.Lock()
	switch {
	case k.stopped:
	case set&health.Failed != 0:
		delete(k.known, addr)
	case clear&health.Failed != 0:
		k.known[addr] = true
	}
	k.mu.Unlock()
	if c := k.core.newest.Load(); c != nil {
		c.setFlags(ep, hostFlagsOf(set), hostFlagsOf(clear))
	}
	if set&health.Failed != 0 && HealthFlags(ep.flags.Load())&PendingDynamicRemoval != 0 {
		k.core.letGo(k.m)
	}
}

// checkedHost is told of each check.
func (k *checks) checkedHost(ep *endpoint, passed bool) {
	if passed && HealthFlags(ep.flags.Load())&FailedActiveHC == 0 {
		if o := k.core.outliers.Load(); o != nil {
			o.detector.CheckPassed(ep.outlier.Load())
		}
	}
	if k.seen(ep) {
		k.over()
	}
}

// seen notes the first check of a host, and reports whether it was the last one of the
// first round.
func (k *checks) seen(ep *endpoint) (last bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.waiting[ep] {
		return false
	}
	delete(k.waiting, ep)
	return len(k.waiting) == 0
}

// over ends the wait for the first round.
func (k *checks) over() {
	k.mu.Lock()
	was := k.round
	k.round = true
	k.mu.Unlock()
	if !was {
		k.m.firstRound(k.slot)
	}
}

// awaitChecks puts the use of a new cluster off until its hosts were checked, and reports
// whether it does. Clusters with checks are in use from then on. The manager's lock is held.
func (m *Manager) awaitChecks(c *Cluster, fresh bool) bool {
	s := c.slot
	if c.Spec().Checks == nil {
		if s.unchecked {
			s.unchecked = false
			m.checking--
		}
		return false
	}
	if !fresh {
		m.started(c)
		return s.unchecked
	}
	hosts := false
	for _, l := range c.hostsOf(c.Spec()).Localities {
		for i := range l.Hosts {
			hosts = hosts || l.Hosts[i].Check == nil || !l.Hosts[i].Check.Disabled
		}
	}
	if hosts {
		s.unchecked = true
		m.checking++
	}
	m.started(c)
	return hosts
}

// firstRound lets a cluster be used whose hosts were checked.
func (m *Manager) firstRound(s *slot) {
	m.mu.Lock()
	defer m.unlock()
	if !s.unchecked || m.slots[s.name] != s || m.closed {
		return
	}
	s.unchecked = false
	m.checking--
	m.usable(s)
	m.count()
}

// stopChecks ends the checks: what they have found counts no more. The manager's lock is
// held, which setting flags must not wait for.
func (co *core) stopChecks(m *Manager) { co.endChecks(m, true) }

// endChecks is stopChecks, or, if others follow, leaves the flags to those.
func (co *core) endChecks(m *Manager, forget bool) {
	k := co.checks
	if k == nil {
		return
	}
	co.checks = nil
	k.mu.Lock()
	k.stopped = true
	k.mu.Unlock()
	co.watches.remove(k.watch)
	end := func() {
		k.watch.stop()
		for _, h := range k.watch.known {
			if s := h.ep.checks.Load(); s.Of(k.checker) && h.ep.checks.CompareAndSwap(s, nil) {
				s.Stop()
				if c := co.newest.Load(); c != nil && forget {
					c.setFlags(h.ep, 0, hostFlagsOf(^health.Flags(0)))
				}
			}
		}
		for _, shut := range k.logs {
			shut()
		}
	}
	if !m.goWork(end) {
		go end()
	}
}
