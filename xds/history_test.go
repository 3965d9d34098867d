package xds_test

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// past is a manager with the engine that it configures and the protocol machine that
// feeds it, without sockets or clocks: a control plane that misbehaves as a script says.
// What comes of it must be what a fresh start with the resources in effect gives.
type past struct {
	t       *testing.T
	v       ads.Variant
	made    bodies
	few     bool // there are no clusters but those that requests ask for, which may be given back
	manager *xds.Manager
	engine  *watched
	runtime *runtime.Runtime
	machine *ads.Machine
	plane   xdstest.Plane
	session *xdstest.Session
	up      []ads.Request
	down    []xdstest.Reply
	opened  int
	timers  map[uint64]bool
	started int

	asked map[string]map[string]bool       // subscriptions, by type
	good  map[string]map[string]*anypb.Any // what must be in effect, by type
}

// watched is an engine that keeps the route tables and scopes that it was given last.
type watched struct {
	*server.Server
	tables map[string]filter.RouteTable
	scopes map[string]string
}

// SetScopes implements xds.Engine.
func (w *watched) SetScopes(key string, list []route.Scope) error {
	if list != nil {
		name, _, _ := strings.Cut(key, "\x00")
		w.scopes[name] = ""
		for _, s := range list {
			w.scopes[name] += " " + s.Name + " to " + s.RDS
		}
	}
	return w.Server.SetScopes(key, list)
}

// SetRoutes implements xds.Engine.
func (w *watched) SetRoutes(name string, table filter.RouteTable) {
	if table != nil {
		w.tables[name] = table
	}
	w.Server.SetRoutes(name, table)
}

var pastTypes = []string{
	ads.ClusterType, ads.EndpointType, ads.ListenerType, ads.RouteType,
	ads.ScopedRouteType, ads.VirtualHostType, ads.RuntimeType,
}

func newPast(t *testing.T, v ads.Variant, made bodies, few bool) *past {
	registry, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		t.Fatal(err)
	}
	p := &past{
		t: t, v: v, made: made, few: few, machine: ads.NewMachine(v, true), timers: map[uint64]bool{},
		asked: map[string]map[string]bool{}, good: map[string]map[string]*anypb.Any{},
	}
	for _, url := range pastTypes {
		p.asked[url], p.good[url] = map[string]bool{}, map[string]*anypb.Any{}
	}
	silent, store := slog.New(slog.DiscardHandler), stats.NewStore()
	o := server.Options{Stats: store, Log: func(string) *slog.Logger { return silent }, DrainTime: time.Hour, Verify: true}
	p.engine = &watched{server.New(o), map[string]filter.RouteTable{}, map[string]string{}}
	p.runtime = runtime.New([]runtime.Layer{{Name: "rt", Kind: runtime.RTDS, Resource: "rt"}}, store)
	p.manager = xds.NewManager(xds.Options{Engine: p.engine, Registry: registry, Log: silent, Stats: store, Runtime: p.runtime, Started: func() {
		if p.started++; p.manager.Initialized() {
			t.Error("ready before listeners accept")
		}
	}})
	p.manager.Over(p, v == ads.Delta)
	p.open()
	from := &xds.Source{Subscriber: p, Timeout: time.Second}
	sources := xds.Sources{Clusters: from, Listeners: from}
	if few {
		sources.Clusters = nil
	}
	p.manager.StartAfter("rt", time.Second, sources)
	return p
}

func (p *past) open() {
	p.opened++
	p.session = xdstest.NewSession(p.opened, p.v == ads.Delta)
	p.up, p.down = nil, nil
	p.effects(p.machine.Step(ads.OpenedEvent{}))
}

// Subscribe implements xds.Subscriber.
func (p *past) Subscribe(url string, timeout time.Duration, names ...string) {
	if len(names) == 0 {
		names = []string{ads.Wildcard}
	}
	for _, name := range names {
		if p.asked[url][name] {
			p.t.Errorf("%s %s is subscribed to twice", ads.ShortType(url), name)
		}
		p.asked[url][name] = true
	}
	p.effects(p.machine.Step(ads.SubscribeEvent{TypeURL: url, FetchTimeout: timeout, Names: names}))
}

// Unsubscribe implements xds.Subscriber.
func (p *past) Unsubscribe(url string, names ...string) {
	for _, name := range names {
		if !p.asked[url][name] {
			p.t.Errorf("%s %s is given up, nobody had subscribed to it", ads.ShortType(url), name)
		}
		delete(p.asked[url], name)
		maps.DeleteFunc(p.good[url], func(held string, _ *anypb.Any) bool { return !p.covers(url, held) })
	}
	p.effects(p.machine.Step(ads.UnsubscribeEvent{TypeURL: url, Names: names}))
}

// covers reports whether anything that is subscribed to has a name.
func (p *past) covers(url, name string) bool {
	table, _, _ := strings.Cut(name, "/")
	return p.asked[url][name] || p.asked[url][ads.Wildcard] || url == ads.VirtualHostType && p.asked[url][table]
}

func (p *past) effects(all []ads.Effect) {
	for _, e := range all {
		switch e := e.(type) {
		case ads.Deliver:
			p.effects(p.machine.Step(ads.AppliedEvent{TypeURL: e.Update.TypeURL, Refused: p.apply(e.Update)}))
		case ads.StartTimer:
			p.timers[e.ID] = true
		case ads.StopTimer:
			delete(p.timers, e.ID)
		case ads.TimedOut:
			p.manager.FetchTimedOut(e.TypeURL, e.Name)
		}
	}
}

// apply gives an update to the manager, which must refuse what is broken and nothing else.
func (p *past) apply(u ads.Update) []ads.Refusal {
	good := p.good[u.TypeURL]
	var bad []string
	for _, r := range u.Changed {
		if p.made.broken(r.Body, p.v) {
			bad = append(bad, r.Name)
			continue
		}
		good[r.Name] = r.Body
	}
	if u.TypeURL != ads.EndpointType && u.TypeURL != ads.RouteType {
		for _, name := range u.Removed { // others go with who refers to them
			delete(good, name)
		}
	}
	refused := p.manager.Apply(u)
	var got []string
	for _, r := range refused {
		got = append(got, r.Name)
	}
	if !slices.Equal(got, bad) {
		p.t.Errorf("%s: refused %v, want %q", ads.ShortType(u.TypeURL), refused, bad)
	}
	return refused
}

// set gives the control plane a resource. Virtual hosts are asked for by their table's name.
func (p *past) set(name string, body *anypb.Any) {
	if table, _, ok := strings.Cut(name, "/"); ok {
		p.plane.Set(name, body, table)
		return
	}
	p.plane.Set(name, body)
}

// steps is how many kinds of steps there are.
const steps = 20

// step does what one byte says; arg picks the resource.
func (p *past) step(op, arg byte) {
	url := pastTypes[int(arg)%len(pastTypes)]
	name := p.made.names[url][int(arg/8)%len(p.made.names[url])]
	switch op % steps {
	case 0, 1, 2, 3:
		p.set(name, p.made.of(url, name, int(op/steps)%variants))
	case 4:
		p.set(name, p.made.of(url, name, variants))
	case 5:
		p.plane.Remove(url, name)
	case 6:
		p.send()
	case 7:
		p.reply()
	case 8:
		p.receive()
	case 9, 10, 11:
		p.talk()
	case 12:
		p.cut(arg%2 == 0)
	case 13:
		p.session.Repeat()
	case 14:
		if p.asked[url][name] {
			p.effects(p.machine.Step(ads.RefreshEvent{TypeURL: url, Names: []string{name}}))
		}
	case 15:
		p.late(url, name, int(op/steps)%variants)
	case 16, 17, 18, 19:
		clusters := p.made.names[ads.ClusterType]
		w := filter.Wanted{Kind: filter.WantedCluster, Name: clusters[int(arg)%len(clusters)]}
		switch op % steps {
		case 16:
			p.manager.Ask(w)
		case 17:
			p.manager.Forget(w)
		case 18:
			p.idle(w.Name)
		case 19: // a request asks again before the server knows
			p.idle(w.Name)
			p.manager.Ask(w)
		}
	}
}

// idle is a cluster that nobody has used for long: it goes, with its subscription, unless
// all clusters are subscribed to, as they are once runtime has come.
func (p *past) idle(name string) {
	has := func() bool { return slices.Contains(p.engine.Clusters.Names(), name) }
	goes := has() && !p.asked[ads.ClusterType][ads.Wildcard]
	stays := has() && !goes
	p.manager.Idle(name)
	if goes && (has() || p.asked[ads.ClusterType][name]) {
		p.t.Errorf("cluster %s is idle, and still there or subscribed to", name)
	}
	if stays && !has() {
		p.t.Errorf("cluster %s was given back, and is one of all that are subscribed to", name)
	}
}

func (p *past) cut(restart bool) {
	if restart {
		p.plane.Restart()
	}
	p.effects(p.machine.Step(ads.ClosedEvent{}))
	p.open()
}

// late is something that was on its way, from a source of its own, when its last user
// went, or a timer that goes off.
func (p *past) late(url, name string, variant int) {
	if url == ads.ClusterType || url == ads.ListenerType || url == ads.RuntimeType {
		p.timeOut(1)
		return
	}
	if !p.covers(url, name) {
		p.manager.Apply(ads.Update{TypeURL: url, Changed: []ads.Resource{{Name: name, Version: "late", Body: p.made.of(url, name, variant)}}})
	}
}

// timeOut lets up to n timers go off.
func (p *past) timeOut(n int) {
	ids := slices.Sorted(maps.Keys(p.timers))
	for _, id := range ids[:min(n, len(ids))] {
		delete(p.timers, id)
		p.effects(p.machine.Step(ads.TimerEvent{ID: id}))
	}
}

func (p *past) send() bool {
	r, ok := p.machine.Next()
	if ok {
		p.up = append(p.up, r)
	}
	if len(p.up) == 0 {
		return ok
	}
	r, p.up = p.up[0], p.up[1:]
	names := r.Names
	if p.v == ads.Delta {
		names = r.Subscribe
	}
	p.session.Accept(xdstest.Request{
		TypeURL: r.TypeURL, Version: r.Version, Nonce: r.Nonce, Error: r.Error,
		Names: names, Unsubscribe: r.Unsubscribe, Initial: r.Initial,
	})
	return true
}

func (p *past) reply() bool {
	r, ok := p.plane.Due(p.session)
	if ok {
		p.down = append(p.down, r)
	}
	return ok
}

func (p *past) receive() bool {
	if len(p.down) == 0 {
		return false
	}
	r := p.down[0]
	p.down = p.down[1:]
	in := ads.FromSotW(r.SotW())
	if p.v == ads.Delta {
		in = ads.FromDelta(r.Delta())
	}
	p.effects(p.machine.Step(ads.ReceivedEvent{Response: in}))
	return true
}

// talk moves messages until there are none.
func (p *past) talk() {
	for range 10_000 {
		moved := p.send()
		moved = p.reply() || moved
		if moved = p.receive() || moved; !moved {
			return
		}
	}
	p.t.Fatal("client and server never stop talking")
}

// settle moves all messages, and then lets all waits end.
func (p *past) settle() {
	for range 1000 {
		p.talk()
		moved := false
		// Clusters here wait for their endpoints for ever: let there be some.
		for name := range p.asked[ads.EndpointType] {
			if p.good[ads.EndpointType][name] == nil {
				p.set(name, p.made.of(ads.EndpointType, name, 0))
				moved = true
			}
		}
		if moved {
			continue
		}
		if len(p.timers) > 0 {
			p.timeOut(len(p.timers))
			continue
		}
		if !p.forget() {
			return
		}
	}
	p.t.Fatal("client and server never stop talking")
}

// arrived checks that what the control plane has, and is asked for, has come.
func (p *past) arrived() {
	for _, url := range pastTypes {
		for _, name := range p.made.names[url] {
			has, got := p.plane.Body(url, name), p.good[url][name]
			switch {
			case !p.covers(url, name):
			case has != nil && !p.made.broken(has, p.v) && (got == nil || p.made.what(has) != p.made.what(got)):
				p.t.Errorf("%s %s: the control plane has %q, %q has come", ads.ShortType(url), name, p.made.what(has), p.made.what(got))
			case has == nil && got != nil && (wholly(url) && !(p.few && p.v == ads.SotW && url == ads.ClusterType) || p.v == ads.Delta && url == ads.VirtualHostType): // others go with who refers to them
				p.t.Errorf("%s %s was taken away, %q is still there", ads.ShortType(url), name, p.made.what(got))
			}
		}
	}
}

// wholly reports whether responses of the whole state hold all resources of a type. Where
// single ones are asked for, one that is missing in such a response is not one that is gone.
func wholly(url string) bool {
	return url == ads.ClusterType || url == ads.ListenerType || url == ads.ScopedRouteType
}

// forget ends the waits for clusters that have not come.
func (p *past) forget() (any bool) {
	for _, name := range p.made.names[ads.ClusterType] {
		if p.asked[ads.ClusterType][name] && p.good[ads.ClusterType][name] == nil {
			p.manager.Forget(filter.Wanted{Kind: filter.WantedCluster, Name: name})
			any = true
		}
	}
	return any
}

// state is what the engine has, what config_dump would show and what is subscribed to.
func (p *past) state() string {
	var out []string
	active, warming := p.engine.Clusters.All()
	for which, list := range map[string][]*cluster.Cluster{"active": active, "warming": warming} {
		for _, c := range list {
			spec, hosts := c.Look()
			line := fmt.Sprintf("%s cluster %s type %v timeout %v hosts", which, spec.Name, spec.Type, spec.ConnectTimeout)
			for _, h := range hosts {
				line += " " + h.Addr.String()
			}
			out = append(out, line)
		}
	}
	for _, l := range p.engine.Listeners.Listeners() {
		out = append(out, "listener "+l.Name()+" "+l.Spec().StatPrefix)
	}
	for name, on := range p.engine.Waiting() {
		out = append(out, fmt.Sprintf("listener %s waits for %q", name, on))
	}
	scopes := p.manager.UsedScopes()
	for _, url := range pastTypes {
		for name := range p.asked[url] {
			if url == ads.ScopedRouteType && len(scopes) == 0 {
				continue // once there, this subscription stays
			}
			out = append(out, "subscribed to "+ads.ShortType(url)+" "+name)
		}
		out = append(out, p.effective(url)...)
	}
	for key, list := range p.engine.scopes {
		if slices.Contains(scopes, key) {
			out = append(out, "scopes "+key+list)
		}
	}
	out = append(out, fmt.Sprintf("runtime %v", p.runtime.View()))
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// effective is what config_dump would show of a type, and the engine's route tables.
func (p *past) effective(url string) (out []string) {
	for _, r := range p.manager.Records(url) {
		want := p.good[url][r.Name]
		if (r.Body != nil) != (want != nil) || want != nil && p.made.what(want) != p.made.what(r.Body) {
			p.t.Errorf("%s %s: in effect is %q, accepted was %q", ads.ShortType(url), r.Name, p.made.what(r.Body), p.made.what(want))
		}
		if r.Body == nil {
			continue
		}
		out = append(out, "in effect "+ads.ShortType(url)+" "+r.Name+" "+p.made.what(r.Body))
		if url == ads.RouteType {
			table, ok := p.engine.tables[r.Name].(*route.Table)
			if !ok || len(table.InternalOnly(nil)) != 1 {
				p.t.Fatalf("the engine has no table of a history for %s: %T", r.Name, p.engine.tables[r.Name])
			}
			out = append(out, "table "+r.Name+" "+table.InternalOnly(nil)[0])
			for _, host := range []string{"h0", "h1"} {
				s := &filter.Stream{}
				s.Request.AddID(header.Authority, host)
				s.Request.AddID(header.Path, "/")
				if to, ok := table.Match(s).(*route.Route); ok {
					out = append(out, "table "+r.Name+" for "+host+" "+to.RouteName)
				}
			}
		}
	}
	return out
}

// runPast compares what a history leaves with a fresh start.
func runPast(t *testing.T, v ads.Variant, made bodies, few bool, script []byte) {
	p := newPast(t, v, made, few)
	defer p.engine.Close()
	for i := 0; i+1 < len(script); i += 2 {
		p.step(script[i], script[i+1])
	}
	p.settle()
	p.arrived()
	fresh := newPast(t, v, made, few)
	defer fresh.engine.Close()
	for _, url := range pastTypes {
		for _, name := range slices.Sorted(maps.Keys(p.good[url])) {
			fresh.set(name, p.good[url][name])
		}
	}
	for name := range p.asked[ads.ClusterType] {
		if name != ads.Wildcard {
			fresh.manager.Ask(filter.Wanted{Kind: filter.WantedCluster, Name: name})
		}
	}
	fresh.settle()
	if got, want := p.state(), fresh.state(); got != want {
		t.Errorf("%v: after the history:\n%s\n\nafter a fresh start:\n%s", v, got, want)
	}
	if p.started != 1 || fresh.started != 1 {
		t.Errorf("%v: the start was over %d times, in the fresh manager %d times", v, p.started, fresh.started)
	}
	if t.Failed() {
		t.Logf("few clusters %t, script %q", few, script)
	}
}

// Whatever order resources come in, are changed, refused, lost and repeated in, what is in
// effect in the end is what a fresh start with the accepted ones gives.
func TestAnyHistoryEndsLikeAFreshStart(t *testing.T) {
	made := newBodies(t)
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		script := make([]byte, 2*(40+rnd.IntN(160)))
		for i := range script {
			script[i] = byte(rnd.Uint32())
		}
		for _, v := range []ads.Variant{ads.SotW, ads.Delta} {
			if runPast(t, v, made, seed%3 == 0, script); t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// Servers do not send again what has not changed.
func TestScopesAreThereForListenersThatComeBack(t *testing.T) {
	made := newBodies(t)
	for _, v := range []ads.Variant{ads.SotW, ads.Delta} {
		p := newPast(t, v, made, false)
		defer p.engine.Close()
		p.set("rt", made.of(ads.RuntimeType, "rt", 0))
		p.set("r1", made.of(ads.RouteType, "r1", 0))
		p.set("p0", made.of(ads.ScopedRouteType, "p0", 1))
		var states []string
		for range 2 {
			p.set("l0", made.of(ads.ListenerType, "l0", 5))
			p.settle()
			p.arrived()
			states = append(states, p.state())
			p.plane.Remove(ads.ListenerType, "l0")
			p.settle()
			if left := p.state(); strings.Contains(left, "cope") {
				t.Errorf("%v: without listeners there is\n%s", v, left)
			}
		}
		if states[0] != states[1] || !strings.Contains(states[0], "scopes s5 p0 to r1") {
			t.Errorf("%v: at first:\n%s\n\nonce more:\n%s", v, states[0], states[1])
		}
	}
}

func FuzzPast(f *testing.F) {
	f.Add(false, false, []byte("\x00\x00\x10\x01\x20\x02\x30\x03\x06\x00\x08\x00\x0a\x00\x0c\x00"))
	f.Add(true, true, []byte("\x01\x00\x11\x01\x21\x02\x31\x03\x06\x00\x08\x00\x0a\x00\x05\x02\x0f\x01"))
	var made bodies
	f.Fuzz(func(t *testing.T, delta, few bool, script []byte) {
		if made.all == nil {
			made = newBodies(t)
		}
		v := ads.SotW
		if delta {
			v = ads.Delta
		}
		runPast(t, v, made, few, script[:min(len(script), 800)])
	})
}
