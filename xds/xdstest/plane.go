package xdstest

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// Request is one message from a client, of either variant.
type Request struct {
	Stream  int // counts streams of the server's life from 1
	Delta   bool
	TypeURL string
	NodeID  string // empty when the message carried no node
	Node    *corev3.Node
	Method  string      // full gRPC method of the stream
	Header  metadata.MD // of the stream
	Version string      // SotW
	Nonce   string
	// Error is the message of error_detail: the request is a NACK.
	Error string
	// Names is resource_names or resource_names_subscribe; Unsubscribe and Initial are delta's.
	Names, Unsubscribe []string
	Initial            map[string]string
}

// ACK reports whether the request accepts a response.
func (r Request) ACK() bool { return r.Nonce != "" && r.Error == "" }

// Plane is what a management server knows: resources with versions. It is the
// server without a network, for tests that drive both sides by hand. The zero
// value is empty and ready. Not safe for concurrent use.
type Plane struct {
	epoch     int // lives so far; part of every version
	seq       int
	resources map[string]map[string]entry // type URL -> name
}

type entry struct {
	version string
	body    *anypb.Any
	aliases []string
}

// Set adds or replaces a resource. Who asks for one of its aliases gets it, too (delta).
func (p *Plane) Set(name string, body *anypb.Any, aliases ...string) {
	if p.resources == nil {
		p.resources = map[string]map[string]entry{}
	}
	m := p.resources[body.GetTypeUrl()]
	if m == nil {
		m = map[string]entry{}
		p.resources[body.GetTypeUrl()] = m
	}
	m[name] = entry{p.nextVersion(), body, aliases}
}

// Remove takes a resource away.
func (p *Plane) Remove(typeURL, name string) {
	delete(p.resources[typeURL], name)
	p.seq++
}

// Body returns a resource, nil if there is none.
func (p *Plane) Body(typeURL, name string) *anypb.Any { return p.resources[typeURL][name].body }

// Names returns the names of a type, in no order.
func (p *Plane) Names(typeURL string) []string {
	return slices.Collect(maps.Keys(p.resources[typeURL]))
}

// Restart gives every resource a new version, as a server does that comes back.
func (p *Plane) Restart() {
	p.epoch++
	for _, m := range p.resources {
		for name, e := range m {
			m[name] = entry{p.nextVersion(), e.body, e.aliases}
		}
	}
}

func (p *Plane) nextVersion() string {
	p.seq++
	return "e" + strconv.Itoa(p.epoch) + "." + strconv.Itoa(p.seq)
}

// Session is the server's side of one stream.
type Session struct {
	id     int
	delta  bool
	nonces int
	types  map[string]*subscription
}

// NewSession starts a stream; id goes into its nonces.
func NewSession(id int, delta bool) *Session {
	return &Session{id: id, delta: delta, types: map[string]*subscription{}}
}

// subscription is what a client asked for and was sent, of one type.
type subscription struct {
	wildcard bool
	legacy   bool // wildcard because no name was ever given
	names    map[string]struct{}
	known    map[string]string // name -> version sent
	nonce    string
	owed     bool // answer even if there is nothing new
}

// Accept takes a message from the client.
func (st *Session) Accept(r Request) {
	sub := st.types[r.TypeURL]
	first := sub == nil
	if first {
		sub = &subscription{names: map[string]struct{}{}, known: map[string]string{}, legacy: true, owed: true}
		st.types[r.TypeURL] = sub
	}
	if st.delta {
		sub.acceptDelta(r, first)
		return
	}
	if !first && r.Nonce != sub.nonce {
		return // about an older response: the client answers the newest too
	}
	sub.legacy = sub.legacy && len(r.Names) == 0
	was := sub.wildcard
	sub.wildcard = sub.legacy
	names := map[string]struct{}{}
	for _, name := range r.Names {
		if name == ads.Wildcard {
			sub.wildcard = true
			continue
		}
		names[name] = struct{}{}
	}
	sub.owed = sub.owed || sub.wildcard && !was // what all is, is an answer even where it is nothing new
	for name := range sub.known {
		if _, ok := names[name]; !ok && !sub.wildcard {
			delete(sub.known, name) // asked for again later, it is sent again
		}
	}
	sub.names = names
}

func (sub *subscription) acceptDelta(r Request, first bool) {
	if first {
		maps.Copy(sub.known, r.Initial)
		sub.wildcard = len(r.Names) == 0
	}
	for _, name := range r.Names {
		if name == ads.Wildcard {
			sub.wildcard = true
			continue
		}
		sub.names[name] = struct{}{}
		if _, held := r.Initial[name]; !first || !held {
			sub.known[name] = "" // asked for by name: send it, or say that there is none
		}
	}
	for _, name := range r.Unsubscribe {
		if name == ads.Wildcard {
			sub.wildcard = false
			continue
		}
		delete(sub.names, name)
		maps.DeleteFunc(sub.known, func(known, _ string) bool { // virtual hosts are asked for by their table's name, too
			return known == name || r.TypeURL == ads.VirtualHostType && strings.HasPrefix(known, name+"/")
		})
		if sub.wildcard {
			sub.known[name] = "" // still wanted as one of all: the client must hear what it is now
		}
	}
}

// Repeat forgets what was sent, so that everything is sent once more.
func (st *Session) Repeat() {
	for _, sub := range st.types {
		for name := range sub.known {
			sub.known[name] = ""
		}
	}
}

// order of responses: what others depend on first.
func order(types map[string]*subscription) []string {
	rank := []string{
		ads.RuntimeType, ads.ExtensionConfigType, ads.ClusterType, ads.EndpointType, ads.ListenerType, ads.ScopedRouteType,
		ads.RouteType, ads.VirtualHostType,
	}
	urls := slices.Collect(maps.Keys(types))
	sort.Slice(urls, func(i, j int) bool {
		a, b := slices.Index(rank, urls[i]), slices.Index(rank, urls[j])
		return a < b || a == b && urls[i] < urls[j]
	})
	return urls
}

// Due returns the next response of a stream, if there is one, and counts it as sent.
func (p *Plane) Due(st *Session) (Reply, bool) {
	for _, url := range order(st.types) {
		sub := st.types[url]
		full := !st.delta && (url == ads.ClusterType || url == ads.ListenerType || url == ads.ScopedRouteType)
		r := Reply{TypeURL: url, Version: fmt.Sprintf("e%d.%d", p.epoch, p.seq), bodies: map[string]entry{}}
		var fresh, all []string
		for name, e := range p.resources[url] {
			if !sub.wildcard && !sub.asks(name, e.aliases) {
				continue
			}
			r.bodies[name] = e
			all = append(all, name)
			if sub.known[name] != e.version {
				fresh = append(fresh, name)
			}
		}
		for name := range sub.known {
			if _, ok := p.resources[url][name]; !ok && !p.alias(url, name) {
				r.Removed = append(r.Removed, name)
			}
		}
		if len(fresh) == 0 && !sub.owed && (len(r.Removed) == 0 || !st.delta && !full) {
			continue
		}
		if r.Names = fresh; full {
			r.Names = all
		}
		slices.Sort(r.Names)
		slices.Sort(r.Removed)
		for _, name := range r.Names {
			sub.known[name] = r.bodies[name].version
		}
		for _, name := range r.Removed {
			delete(sub.known, name)
		}
		st.nonces++
		r.Nonce = fmt.Sprintf("n%d.%d", st.id, st.nonces)
		sub.nonce, sub.owed = r.Nonce, false
		return r, true
	}
	return Reply{}, false
}

// asks reports whether a client asked for a resource, under any of its names.
func (sub *subscription) asks(name string, aliases []string) bool {
	return slices.ContainsFunc(append(aliases, name), func(n string) bool {
		_, ok := sub.names[n]
		return ok
	})
}

// alias reports whether a name is another name of a resource.
func (p *Plane) alias(url, name string) bool {
	for _, e := range p.resources[url] {
		if slices.Contains(e.aliases, name) {
			return true
		}
	}
	return false
}

// Reply is one response, of either variant.
type Reply struct {
	TypeURL, Version, Nonce string
	Names                   []string
	Removed                 []string // delta
	bodies                  map[string]entry
}

// SotW writes the reply as a DiscoveryResponse.
func (r Reply) SotW() *discoveryv3.DiscoveryResponse {
	out := &discoveryv3.DiscoveryResponse{TypeUrl: r.TypeURL, VersionInfo: r.Version, Nonce: r.Nonce}
	for _, name := range r.Names {
		out.Resources = append(out.Resources, r.bodies[name].body)
	}
	return out
}

// Delta writes the reply as a DeltaDiscoveryResponse.
func (r Reply) Delta() *discoveryv3.DeltaDiscoveryResponse {
	out := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: r.TypeURL, SystemVersionInfo: r.Version, Nonce: r.Nonce, RemovedResources: r.Removed,
	}
	for _, name := range r.Names {
		e := r.bodies[name]
		out.Resources = append(out.Resources, &discoveryv3.Resource{Name: name, Version: e.version, Resource: e.body, Aliases: e.aliases})
	}
	return out
}
