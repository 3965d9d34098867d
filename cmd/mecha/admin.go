package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mecha-mesh/mecha/proxy/admin"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/transport"
	"github.com/mecha-mesh/mecha/xds"
)

// console is what admin shows and steers: the whole process, seen through admin.Source.
type console struct {
	p         *proxy
	bootstrap *bootstrapv3.Bootstrap
	options   Options
	start     time.Time
	quit      func()
	reopen    func() error
	draining  atomic.Bool // a graceful drain has begun
}

var (
	_ admin.Source        = (*console)(nil)
	_ admin.RuntimeSetter = (*console)(nil)

	_ admin.ResourceLister    = (*console)(nil)
	_ admin.CertificateLister = (*console)(nil)
)

// State implements admin.Source.
func (c *console) State() admin.State {
	switch {
	case c.p.failing.Load(): // draining listeners leaves a server live, as in Envoy
		return admin.Draining
	case !c.p.manager.Initialized():
		return admin.Initializing
	}
	return admin.Live
}

// ServerInfo implements admin.Source.
func (c *console) ServerInfo() admin.ServerInfo {
	node, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(c.bootstrap.GetNode())
	if err != nil {
		node = nil // a node that cannot be shown is left out
	}
	return admin.ServerInfo{
		Version: buildVersion(), Start: c.start, HotRestartVersion: "disabled",
		CommandLine: c.options.commandLine(), Node: json.RawMessage(node),
	}
}

// Clusters implements admin.Source.
func (c *console) Clusters() []admin.ClusterView {
	active, _ := c.p.server.Clusters.All()
	out := make([]admin.ClusterView, 0, len(active))
	for _, cl := range active {
		spec, hosts := cl.Look()
		v := admin.ClusterView{
			Name: spec.Name, AddedViaAPI: !c.p.manager.IsStatic(spec.Name),
			Default: thresholds(spec.Breakers[cluster.Default]), High: thresholds(spec.Breakers[cluster.High]),
		}
		if spec.StatName != spec.Name {
			v.Observability = spec.StatName
		}
		if spec.Type == cluster.EDS {
			v.EDSServiceName = spec.ServiceName
		}
		if d := cl.Outlier(); d != nil {
			answers, connections := d.Averages()
			v.Outlier = &admin.OutlierView{
				Average: answers.Average, Threshold: answers.Threshold,
				LocalOriginAverage: connections.Average, LocalOriginThreshold: connections.Threshold,
			}
		}
		for _, h := range hosts {
			v.Hosts = append(v.Hosts, hostView(h))
		}
		out = append(out, v)
	}
	return out
}

func thresholds(t cluster.Thresholds) admin.Thresholds {
	return admin.Thresholds{
		MaxConnections: t.MaxConnections, MaxPendingRequests: t.MaxPending,
		MaxRequests: t.MaxRequests, MaxRetries: t.MaxRetries,
	}
}

func hostView(h *cluster.Host) admin.HostView {
	st := h.Stats()
	v := admin.HostView{
		Address: h.Addr, Hostname: h.Hostname, Weight: h.Weight, Priority: h.Priority,
		Canary: h.Canary(), Region: h.Region, Zone: h.Zone, SubZone: h.SubZone,
		CxActive: uint64(st.CxActive.Value()), CxConnectFail: st.CxConnectFail.Value(), CxTotal: st.CxTotal.Value(),
		RqActive: uint64(st.RqActive.Value()), RqError: st.RqError.Value(), RqSuccess: st.RqSuccess.Value(),
		RqTimeout: st.RqTimeout.Value(), RqTotal: st.RqTotal.Value(),
	}
	switch h.Health {
	case cluster.Degraded:
		v.EDSHealth = "DEGRADED"
	case cluster.Unhealthy:
		v.EDSHealth = "UNHEALTHY"
	case cluster.DrainingHost:
		v.EDSHealth = "DRAINING"
	case cluster.TimedOutHost:
		v.EDSHealth = "TIMEOUT"
	}
	v.SuccessRate, v.LocalOriginSuccessRate = h.Outlier().Rates()
	v.Health = admin.HealthFlags(h.Flags()) // both in the order in which Envoy prints them
	return v
}

// Listeners implements admin.Source.
func (c *console) Listeners() []admin.ListenerView {
	var out []admin.ListenerView
	add := func(name string, addrs []meta.Addr, spec *l4.Spec) {
		if len(addrs) == 0 {
			for _, a := range spec.Addresses {
				addrs = append(addrs, a.Addr)
			}
		}
		out = append(out, admin.ListenerView{Name: name, Address: addrs[0], Additional: addrs[1:]})
	}
	for _, l := range c.p.server.Listeners.Listeners() {
		add(l.Name(), l.Bound(), l.Spec())
	}
	for _, l := range c.p.server.Listeners.UDPListeners() {
		add(l.Name(), l.Bound(), l.Spec())
	}
	return out
}

// Certificates implements admin.CertificateLister.
func (c *console) Certificates() (out []secret.InUse) {
	add := func(s transport.Socket) {
		if u, ok := transport.InUse(s); ok {
			out = append(out, u)
		}
	}
	for _, l := range c.p.server.Listeners.Listeners() {
		spec := l.Spec()
		for _, ch := range spec.Chains {
			add(ch.Socket)
		}
		if spec.Default != nil {
			add(spec.Default.Socket)
		}
	}
	active, _ := c.p.server.Clusters.All()
	for _, cl := range active {
		spec := cl.Spec()
		add(spec.Socket)
		for _, m := range spec.Sockets {
			add(m.Socket)
		}
	}
	return out
}

// Unready implements admin.Initializer.
func (c *console) Unready() []admin.Unready {
	_, warming := c.p.server.Clusters.All()
	var out []admin.Unready
	for _, cl := range warming {
		out = append(out, admin.Unready{Name: "cluster " + cl.Spec().Name, Targets: []string{"its first hosts"}})
	}
	for name, routes := range c.p.server.Waiting() {
		u := admin.Unready{Name: "listener " + name}
		for _, r := range routes {
			u.Targets = append(u.Targets, "route configuration "+r)
		}
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b admin.Unready) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Resources implements admin.ResourceLister.
func (c *console) Resources() []admin.ResourceView {
	used := func(name string) bool {
		cl := c.p.server.Clusters.Cluster(name)
		return cl != nil && cl.Used()
	}
	var out []admin.ResourceView
	for _, r := range c.p.manager.Overview(used) {
		v := admin.ResourceView{Type: r.Type, Name: r.Name, Version: r.Version, Used: r.Used, Static: r.Static, Stale: r.Stale}
		if r.Refused != nil {
			v.Refused = r.Refused.Error()
		}
		out = append(out, v)
	}
	return out
}

// Runtime implements admin.Source.
func (c *console) Runtime() admin.RuntimeView {
	now := c.p.runtime.View()
	view := admin.RuntimeView{Layers: now.Layers, Entries: map[string]admin.RuntimeEntry{}}
	for key, e := range now.Entries {
		view.Entries[key] = admin.RuntimeEntry{Final: e.Final, Layers: e.Layers}
	}
	return view
}

// SetRuntime implements admin.RuntimeSetter.
func (c *console) SetRuntime(values admin.Params) error {
	pairs := make([][2]string, len(values))
	for i, v := range values {
		pairs[i] = [2]string{v.Key, v.Value}
	}
	if err := c.p.runtime.SetAdmin(pairs); err != nil {
		return &admin.Error{Code: 503, Text: err.Error()}
	}
	return nil
}

// ConfigDump implements admin.Source.
func (c *console) ConfigDump(o admin.DumpOptions) ([]byte, error) {
	active, warming := c.p.server.Clusters.All()
	out, err := c.p.manager.Dump(c.bootstrap, xds.DumpOptions{
		Resource: o.Resource, Mask: o.Mask, NameRegex: o.NameRegex, IncludeEDS: o.IncludeEDS,
		Loaded: c.start, Active: active, Warming: warming, WarmingListeners: slices.Collect(maps.Keys(c.p.server.Waiting())),
		FailedListeners: c.p.server.Listeners.Failed(),
	})
	if e, ok := errors.AsType[*xds.DumpError](err); ok {
		code := 400
		if e.NotFound {
			code = 404
		}
		return nil, &admin.Error{Code: code, Text: e.Text}
	}
	return out, err
}

// Drain implements admin.Source. A graceful drain is not begun twice.
func (c *console) Drain(o admin.DrainOptions) {
	switch l := c.p.server.Listeners; {
	case !o.Graceful && o.SkipExit: // nothing to discourage, nothing to stop
	case !o.Graceful:
		l.Drain(o.InboundOnly, false, nil)
	case c.draining.Swap(true):
	case o.SkipExit:
		l.Discourage(o.InboundOnly)
	default:
		l.Drain(o.InboundOnly, true, func() { c.draining.Store(false) })
	}
}

// SetHealthy implements admin.Source.
func (c *console) SetHealthy(ok bool) {
	c.p.failing.Store(!ok)
	c.p.server.Listeners.SetHealthy(ok)
}

// ReopenLogs implements admin.Source.
func (c *console) ReopenLogs() error { return c.reopen() }

// Quit implements admin.Source.
func (c *console) Quit() { c.quit() }

// listenAdmin opens the admin address of the bootstrap; nil without one.
func listenAdmin(b *bootstrapv3.Bootstrap) (net.Listener, error) {
	a := b.GetAdmin().GetAddress()
	if a == nil {
		return nil, nil
	}
	addr, err := adminAddress(a)
	if err != nil {
		return nil, filter.At("admin.address", err)
	}
	return admin.Listen(addr, fs.FileMode(a.GetPipe().GetMode()))
}

// serveAdmin serves the admin interface on l, if there is one. The server is closed
// when ctx ends.
func (c *console) serveAdmin(ctx context.Context, l net.Listener, cfg admin.Config, log *slog.Logger) error {
	if l == nil {
		return nil
	}
	if err := c.writeAdminAddress(l.Addr()); err != nil {
		return err
	}
	cfg.Source, cfg.Log = c, log
	s := admin.New(cfg)
	context.AfterFunc(ctx, func() { _ = s.Close() }) // the process ends: nobody is left to tell
	go func() {
		if err := s.Serve(l); err != nil {
			log.Error("admin has stopped", "error", err)
		}
	}()
	log.Info("admin address", "address", l.Addr().String())
	return nil
}

// profilePath is where /cpuprofiler writes.
func profilePath(b *bootstrapv3.Bootstrap) string {
	if p := b.GetAdmin().GetProfilePath(); p != "" {
		return p
	}
	return "/var/log/envoy/envoy.prof" // Envoy's default
}

func adminAddress(a *corev3.Address) (meta.Addr, error) {
	if p := a.GetPipe(); p != nil {
		return meta.Addr{Path: p.Path}, nil
	}
	s := a.GetSocketAddress()
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil {
		return meta.Addr{}, fmt.Errorf("socket_address.address: %w", err)
	}
	if s.GetPortValue() > 65535 {
		return meta.Addr{}, errors.New("socket_address.port_value: is not a port number")
	}
	return meta.Addr{AddrPort: netip.AddrPortFrom(ip, uint16(s.GetPortValue()))}, nil
}

// writeAdminAddress obeys --admin-address-path.
func (c *console) writeAdminAddress(a net.Addr) error {
	if c.options.AdminAddressPath == "" {
		return nil
	}
	if err := os.WriteFile(c.options.AdminAddressPath, []byte(a.String()), 0o644); err != nil {
		return fmt.Errorf("--admin-address-path: %w", err)
	}
	return nil
}
