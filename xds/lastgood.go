package xds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// LastGood says where the last accepted configuration is kept, so that a proxy that
// starts while its control plane is away has one. Private keys are never written.
type LastGood struct {
	Dir string // "" keeps none
	// MaxAge is how old it may be to be used; 0 is no limit.
	MaxAge time.Duration
	// Grace is how long the control plane has to answer before it is used; a connection
	// that fails ends it at once. 0 is 3 s.
	Grace time.Duration
}

// Times of the file and of what came from it.
const (
	saveAfter  = time.Second     // of quiet
	sweepAfter = 5 * time.Second // after the first answer, for those who answer in pieces
)

const (
	lastGoodFile   = "last-known-good.pb"
	lastGoodFormat = "mecha/last-known-good/v1"
	maxLastGood    = 256 << 20
)

// lastGoodCounters are last_known_good.*.
type lastGoodCounters struct {
	Active   stats.Gauge   `stat:"active" help:"1 while something of the configuration is what was kept on disk, because the control plane was away at the start."`
	Age      stats.Gauge   `stat:"age_seconds" help:"How old what is in use from disk is, in seconds since it was written; 0 while active is 0."`
	Loads    stats.Counter `stat:"loads" help:"Times that the configuration was taken from disk."`
	Expired  stats.Counter `stat:"expired" help:"Times that the configuration on disk was too old."`
	Saves    stats.Counter `stat:"saves" help:"Times that the configuration was written."`
	Failures stats.Counter `stat:"save_failures" help:"Times that it could not be written."`
}

// lastGood belongs to the manager's lock.
type lastGood struct {
	LastGood
	counters lastGoodCounters
	node     string
	at       time.Time   // when what is in use from the disk was written
	timer    *time.Timer // a save is due
	loading  bool
	stale    bool            // some records are from the disk
	sweeps   map[string]bool // types whose first answer has come
}

// keepLater arranges for what is in effect to be written. The lock is held.
func (m *Manager) keepLater() {
	g := &m.lastGood
	if g.Dir == "" || g.loading || g.stale || g.timer != nil || !m.running {
		return
	}
	g.timer = time.AfterFunc(saveAfter, m.keep)
}

// keep writes what is in effect, all of it or nothing.
func (m *Manager) keep() {
	m.mu.Lock()
	g := &m.lastGood
	g.timer = nil
	if g.stale || !m.running {
		m.mu.Unlock()
		return
	}
	if !m.Initialized() { // half a configuration must not replace a whole one
		m.keepLater()
		m.mu.Unlock()
		return
	}
	out := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: lastGoodFormat, Nonce: g.node, SystemVersionInfo: time.Now().UTC().Format(time.RFC3339),
	}
	for _, typeURL := range lastGoodTypes() {
		for _, r := range m.inUse.types[typeURL] {
			if r.Static || r.Body == nil || r.sensitive() {
				continue
			}
			out.Resources = append(out.Resources, &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
		}
	}
	dir := g.Dir
	m.mu.Unlock()
	if err := writeLastGood(dir, out); err != nil {
		g.counters.Failures.Inc()
		m.log.Warn("the last known good configuration cannot be kept", "error", err)
		return
	}
	g.counters.Saves.Inc()
}

// lastGoodTypes are what is kept, in the order in which it is put in effect again.
func lastGoodTypes() []string {
	return []string{ads.RuntimeType, ads.ClusterType, ads.EndpointType, ads.ListenerType, ads.ScopedRouteType, ads.ExtensionConfigType, ads.RouteType}
}

// sensitive reports whether a resource holds anything that the API marks as sensitive, also
// inside of messages that are packed, or that looks like a private key. What is not known
// to be harmless is sensitive. It is found out once for each version.
func (r *Record) sensitive() bool {
	if r.checked != r.Body {
		r.checked, r.secret = r.Body, holdsSecret(r.Body)
	}
	return r.secret
}

func holdsSecret(a *anypb.Any) bool {
	if bytes.Contains(a.GetValue(), []byte("PRIVATE KEY-----")) || bytes.Contains(a.GetValue(), []byte("pkcs12")) {
		return true
	}
	msg, err := a.UnmarshalNew()
	if err != nil {
		return true
	}
	found := false
	walk(msg.ProtoReflect(), func(m protoreflect.Message) {
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			found = found || sensitive(fd) && !isReference(fd, v)
			return !found
		})
	})
	return found
}

// isReference reports whether a sensitive field only says where the secret is.
func isReference(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	if fd.Message() == nil || fd.IsList() || fd.IsMap() {
		return false
	}
	d, ok := v.Message().Interface().(*corev3.DataSource)
	return ok && (d.GetFilename() != "" || d.GetEnvironmentVariable() != "")
}

func writeLastGood(dir string, msg proto.Message) error {
	raw, err := proto.Marshal(msg)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, lastGoodFile+".*") // for the owner alone
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, lastGoodFile))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use
	}
	return err
}

// errExpired is a configuration that is too old to be used.
var errExpired = errors.New("it is too old")

// readLastGood reads what was kept for a node, with when that was.
func readLastGood(g *LastGood, node string, now time.Time) (*discoveryv3.DeltaDiscoveryResponse, time.Time, error) {
	var at time.Time
	path := filepath.Join(g.Dir, lastGoodFile)
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxLastGood {
		err = fmt.Errorf("%s has %d bytes", path, info.Size())
	}
	if err != nil {
		return nil, at, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, at, err
	}
	msg := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(raw, msg); err != nil {
		return nil, at, fmt.Errorf("%s: %w", path, err)
	}
	switch at, err = time.Parse(time.RFC3339, msg.SystemVersionInfo); {
	case msg.TypeUrl != lastGoodFormat || err != nil:
		return nil, at, fmt.Errorf("%s: is no such file", path)
	case msg.Nonce != node:
		return nil, at, fmt.Errorf("%s: belongs to the node %q", path, msg.Nonce)
	case g.MaxAge > 0 && now.Sub(at) > g.MaxAge:
		return nil, at, errExpired
	}
	return msg, at, nil
}

// watchStart puts the kept configuration in effect if the control plane does not answer.
func (m *Manager) watchStart(ctx context.Context, failed func() bool) {
	m.mu.Lock()
	g := &m.lastGood
	grace := g.Grace
	off := g.Dir == ""
	m.mu.Unlock()
	if off {
		return
	}
	if grace <= 0 {
		grace = 3 * time.Second
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(grace); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if m.heard.Load() {
			return
		}
		if failed() || time.Now().After(end) {
			m.load()
			return
		}
	}
}

// load puts the kept configuration in effect, as if the control plane had sent it. What
// this build refuses is left out.
func (m *Manager) load() {
	g := &m.lastGood
	msg, at, err := readLastGood(&g.LastGood, g.node, time.Now())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.log.Warn("the control plane is away, and there is no last known good configuration", "dir", g.Dir)
		return
	case errors.Is(err, errExpired):
		g.counters.Expired.Inc()
		m.log.Warn("the control plane is away, and the last known good configuration has expired", "from", at, "max_age", g.MaxAge)
		return
	case err != nil:
		m.log.Warn("the control plane is away, and the last known good configuration cannot be used", "error", err)
		return
	}
	m.log.Warn("the control plane is away: using the last known good configuration", "from", at, "resources", len(msg.Resources))
	g.counters.Loads.Inc()
	m.mu.Lock()
	g.loading, g.at = true, at
	m.mu.Unlock()
	for _, typeURL := range lastGoodTypes() {
		u := ads.Update{TypeURL: typeURL, First: true}
		for _, r := range msg.Resources {
			if r.GetResource().GetTypeUrl() == typeURL && !m.holds(typeURL, r.Name) {
				u.Changed = append(u.Changed, ads.Resource{Name: r.Name, Version: r.Version, Body: r.Resource, Digest: ads.DigestOf(r.Resource)})
			}
		}
		if len(u.Changed) > 0 {
			m.Apply(u)
			m.mark(u)
		}
	}
	m.mu.Lock()
	g.loading = false
	m.staleDone()
	m.mu.Unlock()
}

// holds reports whether something newer than the kept one is there already.
func (m *Manager) holds(typeURL, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.inUse.types[typeURL][name]
	return r != nil && r.Body != nil
}

// mark notes which resources are from the disk.
func (m *Manager) mark(u ads.Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range u.Changed {
		if r := m.inUse.types[u.TypeURL][u.Changed[i].Name]; r != nil && r.Body == u.Changed[i].Body {
			r.Stale = true
			m.lastGood.stale = true
			m.lastGood.counters.Active.Set(1)
		}
	}
}

// answer notes an answer of the control plane: soon after the first one of a type that
// comes whole, what it did not name is removed. The lock is held.
func (m *Manager) answer(u ads.Update) {
	g := &m.lastGood
	if g.Dir == "" || g.loading || !g.stale {
		return
	}
	m.staleDone()
	whole := u.TypeURL == ads.ClusterType || u.TypeURL == ads.ListenerType || u.TypeURL == ads.ScopedRouteType
	if !whole || g.sweeps[u.TypeURL] {
		return
	}
	if g.sweeps == nil {
		g.sweeps = map[string]bool{}
	}
	g.sweeps[u.TypeURL] = true
	time.AfterFunc(sweepAfter, func() { m.sweep(u.TypeURL) })
}

// sweep removes what the control plane no longer has.
func (m *Manager) sweep(typeURL string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, remove := m.verbs(typeURL)
	for name, r := range m.inUse.types[typeURL] {
		if r.Stale {
			remove(name)
			m.inUse.forget(typeURL, name)
		}
	}
	m.staleDone()
}

// staleDone ends the use of the kept configuration when nothing of it is left that the
// control plane has not spoken of. The lock is held.
func (m *Manager) staleDone() {
	g := &m.lastGood
	if !g.stale || g.loading {
		return
	}
	for _, byName := range m.inUse.types {
		for _, r := range byName {
			if r.Stale {
				return
			}
		}
	}
	g.stale = false
	g.counters.Active.Set(0)
	m.log.Log(context.Background(), slog.LevelInfo, "the control plane has replaced the last known good configuration")
	m.keepLater()
}

// showAge brings last_known_good.age_seconds up to date.
func (m *Manager) showAge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := &m.lastGood
	age := time.Duration(0)
	if g.stale {
		age = max(0, time.Since(g.at))
	}
	g.counters.Age.Set(int64(age.Seconds()))
}

// ResourceView is a resource as an operator looks at it.
type ResourceView struct {
	Type, Name, Version string
	// Used tells whether something refers to it, or traffic has used it.
	Used bool
	// Stale tells that it is from the disk, and the control plane has not spoken of it.
	Stale, Static bool
	Refused       error // of the newest version, nil if it is in effect
}

// Overview returns all resources, by type and name. used tells of clusters whether
// traffic has used them.
func (m *Manager) Overview(used func(cluster string) bool) []ResourceView {
	var out []ResourceView
	services := m.serviceUsers()
	for _, typeURL := range lastGoodTypes() {
		for _, r := range m.Records(typeURL) {
			v := ResourceView{
				Type: ads.ShortType(typeURL), Name: r.Name, Version: r.Version, Used: true,
				Stale: r.Stale, Static: r.Static,
			}
			if r.Refused != nil {
				v.Refused = r.Refused.Err
			}
			switch typeURL {
			case ads.ClusterType:
				v.Used = used(r.Name)
			case ads.EndpointType:
				v.Used = slices.ContainsFunc(services[r.Name], used)
			}
			out = append(out, v)
		}
	}
	return out
}

// serviceUsers are the clusters that use each EDS service.
func (m *Manager) serviceUsers() map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string][]string, len(m.services.users))
	for r, users := range m.services.users {
		out[r.name] = append(out[r.name], users...)
	}
	return out
}
