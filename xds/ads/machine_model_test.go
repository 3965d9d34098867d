package ads_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// world is a machine and a server with two queues between them. Every byte of an
// input moves one thing a step: a message, a change, a lost stream. After any
// input, letting it run out must leave the client with what the server has.
type world struct {
	t      *testing.T
	v      ads.Variant
	m      *ads.Machine
	plane  xdstest.Plane
	sess   *xdstest.Session
	up     []ads.Request   // client to server, in flight
	down   []xdstest.Reply // server to client, in flight
	nonces map[string]string
	opened int

	wild map[string]bool
	want map[string]map[string]bool
	have map[string]map[string]string // what the handler has in effect
	seq  int
}

var worldTypes = []string{ads.ClusterType, ads.EndpointType, ads.RouteType}

func newWorld(t *testing.T, v ads.Variant) *world {
	w := &world{
		t: t, v: v, m: ads.NewMachine(v, true),
		wild: map[string]bool{}, want: map[string]map[string]bool{}, have: map[string]map[string]string{},
	}
	for _, url := range worldTypes {
		w.want[url], w.have[url] = map[string]bool{}, map[string]string{}
	}
	w.open()
	return w
}

func (w *world) open() {
	w.opened++
	w.sess = xdstest.NewSession(w.opened, w.v == ads.Delta)
	w.nonces = map[string]string{}
	w.up, w.down = nil, nil
	w.m.Step(ads.OpenedEvent{})
}

func (w *world) cut() {
	effects := w.m.Step(ads.ClosedEvent{})
	if len(effects) != 1 {
		w.t.Fatalf("a lost stream caused %v, want one Reconnect", effects)
	}
	w.open()
}

// step does what one byte says; arg picks the type and the name.
func (w *world) step(op, arg byte) {
	url := worldTypes[int(arg)%len(worldTypes)]
	name := fmt.Sprintf("r%d", (arg/3)%5)
	switch op % 12 {
	case 0:
		w.want[url][name] = true
		w.m.Step(ads.SubscribeEvent{TypeURL: url, Names: []string{name}})
	case 1:
		w.unsubscribe(url, name)
	case 2:
		if url == ads.ClusterType {
			w.wild[url] = true
			w.m.Step(ads.SubscribeEvent{TypeURL: url})
		}
	case 3, 4:
		w.set(url, name, "good")
	case 5:
		w.set(url, name, "BROKEN")
	case 6:
		w.plane.Remove(url, name)
	case 7:
		w.clientSends()
	case 8:
		w.serverTakes()
	case 9:
		if r, ok := w.plane.Due(w.sess); ok {
			w.down = append(w.down, r)
		}
	case 10:
		w.clientTakes()
	case 11:
		w.rare(arg, url, name)
	}
}

func (w *world) rare(arg byte, url, name string) {
	switch arg % 4 {
	case 0:
		w.cut()
	case 1:
		w.plane.Restart()
		w.cut()
	case 2:
		w.sess.Repeat()
	case 3:
		w.m.Step(ads.RefreshEvent{TypeURL: url, Names: []string{name}})
	}
}

func (w *world) unsubscribe(url, name string) {
	delete(w.want[url], name)
	w.m.Step(ads.UnsubscribeEvent{TypeURL: url, Names: []string{name}})
	if !w.wild[url] {
		delete(w.have[url], name) // nobody uses it any more
	}
}

func (w *world) set(url, name, body string) {
	w.seq++
	value := append([]byte{0x0a, byte(len(name))}, name...)
	text := fmt.Sprintf("%s %d", body, w.seq)
	value = append(append(value, 0x12, byte(len(text))), text...)
	w.plane.Set(name, &anypb.Any{TypeUrl: url, Value: value})
}

func (w *world) clientSends() bool {
	r, ok := w.m.Next()
	if !ok {
		return false
	}
	if r.Node != (len(w.up) == 0 && len(w.nonces) == 0 && !w.sentBefore()) {
		w.t.Fatalf("node in request %+v", r)
	}
	if r.Nonce != "" && w.v == ads.SotW && r.Nonce != w.nonces[r.TypeURL] {
		w.t.Fatalf("request carries nonce %q, the last response had %q", r.Nonce, w.nonces[r.TypeURL])
	}
	w.nonces["sent"] = "yes"
	w.up = append(w.up, r)
	return true
}

func (w *world) sentBefore() bool { return w.nonces["sent"] != "" }

func (w *world) serverTakes() bool {
	if len(w.up) == 0 {
		return false
	}
	r := w.up[0]
	w.up = w.up[1:]
	names := r.Names
	if w.v == ads.Delta {
		names = r.Subscribe
	}
	w.sess.Accept(xdstest.Request{
		TypeURL: r.TypeURL, Version: r.Version, Nonce: r.Nonce, Error: r.Error,
		Names: names, Unsubscribe: r.Unsubscribe, Initial: r.Initial,
	})
	return true
}

func (w *world) clientTakes() bool {
	if len(w.down) == 0 {
		return false
	}
	r := w.down[0]
	w.down = w.down[1:]
	w.nonces[r.TypeURL] = r.Nonce
	in := ads.FromSotW(r.SotW())
	if w.v == ads.Delta {
		in = ads.FromDelta(r.Delta())
	}
	for _, e := range w.m.Step(ads.ReceivedEvent{Response: in}) {
		if d, ok := e.(ads.Deliver); ok {
			w.m.Step(ads.AppliedEvent{TypeURL: r.TypeURL, Refused: w.apply(d.Update)})
		}
	}
	return true
}

func (w *world) apply(u ads.Update) []ads.Refusal {
	var refused []ads.Refusal
	for _, r := range u.Changed {
		if !w.wild[u.TypeURL] && !w.want[u.TypeURL][r.Name] {
			w.t.Fatalf("%s %s was delivered, nobody asked for it", ads.ShortType(u.TypeURL), r.Name)
		}
		if strings.Contains(string(r.Body.Value), "BROKEN") {
			refused = append(refused, ads.Refusal{Name: r.Name, Err: errors.New("broken")})
			continue
		}
		w.have[u.TypeURL][r.Name] = string(r.Body.Value)
	}
	for _, name := range u.Removed {
		delete(w.have[u.TypeURL], name)
	}
	return refused
}

// settle moves messages until none is left to move.
func (w *world) settle() {
	for range 10_000 {
		moved := w.clientSends()
		moved = w.serverTakes() || moved
		if r, ok := w.plane.Due(w.sess); ok {
			w.down = append(w.down, r)
			moved = true
		}
		if moved = w.clientTakes() || moved; !moved {
			return
		}
	}
	w.t.Fatal("client and server never stop talking")
}

// check compares the handler's state with the server's.
func (w *world) check() {
	for _, url := range worldTypes {
		for _, name := range w.plane.Names(url) {
			if !w.wild[url] && !w.want[url][name] {
				continue
			}
			body := string(w.plane.Body(url, name).Value)
			got, ok := w.have[url][name]
			if strings.Contains(body, "BROKEN") {
				if strings.Contains(got, "BROKEN") {
					w.t.Errorf("%s %s: a refused body is in effect", ads.ShortType(url), name)
				}
				continue
			}
			if !ok || got != body {
				w.t.Errorf("%s %s: have %q, the server has %q", ads.ShortType(url), name, got, body)
			}
		}
		for name := range w.have[url] {
			gone := !slices.Contains(w.plane.Names(url), name)
			if gone && (w.v == ads.Delta || w.wild[url] || url == ads.ClusterType) {
				w.t.Errorf("%s %s: still in effect, the server has removed it", ads.ShortType(url), name)
			}
		}
	}
}

func runWorld(t *testing.T, v ads.Variant, script []byte) {
	w := newWorld(t, v)
	for i := 0; i+1 < len(script); i += 2 {
		w.step(script[i], script[i+1])
	}
	w.settle()
	w.check()
	if t.Failed() {
		t.Logf("script %q", script)
	}
}

// Any order of changes, messages, lost streams, restarts and repeats ends with the
// client holding what the server holds.
func TestAnyHistoryConverges(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		for seed := range uint64(3000) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			script := make([]byte, 2*(1+rnd.IntN(120)))
			for i := range script {
				script[i] = byte(rnd.Uint32())
			}
			runWorld(t, v, script)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	})
}

func FuzzHistory(f *testing.F) {
	f.Add(false, []byte("\x02\x00\x03\x00\x07\x00\x08\x00\x09\x00\x0a\x00"))
	f.Add(true, []byte("\x00\x01\x03\x01\x07\x00\x08\x00\x09\x00\x0a\x00\x0b\x00\x01\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, delta bool, script []byte) {
		v := ads.SotW
		if delta {
			v = ads.Delta
		}
		runWorld(t, v, script[:min(len(script), 2000)])
	})
}
