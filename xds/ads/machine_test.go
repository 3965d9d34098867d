package ads_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// res is a resource as it comes out of a response.
func res(url, name, version, body string) ads.Resource {
	a := &anypb.Any{TypeUrl: url, Value: []byte(body)}
	return ads.Resource{Name: name, Version: version, Body: a, Digest: ads.DigestOf(a)}
}

// receive gives a response to the machine, answers with refusals and returns what was delivered.
func receive(t *testing.T, m *ads.Machine, r ads.Response, refused ...ads.Refusal) *ads.Update {
	t.Helper()
	var got *ads.Update
	for _, e := range m.Step(ads.ReceivedEvent{Response: r}) {
		if d, ok := e.(ads.Deliver); ok {
			got = &d.Update
			m.Step(ads.AppliedEvent{TypeURL: r.TypeURL, Refused: refused})
		}
	}
	return got
}

func next(t *testing.T, m *ads.Machine, want ads.Request) {
	t.Helper()
	got, ok := m.Next()
	if !ok {
		t.Fatalf("nothing to send, want %+v", want)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("sends %+v\nwant  %+v", got, want)
	}
}

func quiet(t *testing.T, m *ads.Machine) {
	t.Helper()
	if r, ok := m.Next(); ok {
		t.Fatalf("sends %+v, want nothing", r)
	}
}

func names(rs []ads.Resource) string {
	var out []string
	for _, r := range rs {
		out = append(out, r.Name)
	}
	return strings.Join(out, " ")
}

func TestSotWVersionsAndNonces(t *testing.T) {
	m := ads.NewMachine(ads.SotW, true)
	m.Step(ads.SubscribeEvent{TypeURL: ads.RouteType, Names: []string{"b", "a"}})
	m.Step(ads.SubscribeEvent{TypeURL: ads.ClusterType})
	quiet(t, m) // no stream yet
	m.Step(ads.OpenedEvent{})
	next(t, m, ads.Request{TypeURL: ads.ClusterType, Node: true})
	next(t, m, ads.Request{TypeURL: ads.RouteType, Names: []string{"a", "b"}})
	quiet(t, m)

	receive(t, m, ads.Response{TypeURL: ads.ClusterType, Version: "1", Nonce: "x", Resources: []ads.Resource{res(ads.ClusterType, "c", "1", "c1")}})
	next(t, m, ads.Request{TypeURL: ads.ClusterType, Version: "1", Nonce: "x"}) // ACK

	bad := ads.Refusal{Name: "c", Err: errors.New("connect_timeout: negative")}
	receive(t, m, ads.Response{TypeURL: ads.ClusterType, Version: "2", Nonce: "y", Resources: []ads.Resource{res(ads.ClusterType, "c", "2", "c2")}}, bad)
	next(t, m, ads.Request{ // NACK: the version before, the nonce of the refused one
		TypeURL: ads.ClusterType, Version: "1", Nonce: "y",
		Error: "Error adding/updating Cluster: 1 of 1 refused: c: connect_timeout: negative",
	})

	// A changed subscription before the first response and after one.
	m.Step(ads.SubscribeEvent{TypeURL: ads.RouteType, Names: []string{"c"}})
	next(t, m, ads.Request{TypeURL: ads.RouteType, Names: []string{"a", "b", "c"}})
	receive(t, m, ads.Response{TypeURL: ads.RouteType, Version: "9", Nonce: "r1"})
	m.Step(ads.UnsubscribeEvent{TypeURL: ads.RouteType, Names: []string{"a"}})
	next(t, m, ads.Request{TypeURL: ads.RouteType, Version: "9", Nonce: "r1", Names: []string{"b", "c"}}) // ACK and change in one
	m.Step(ads.UnsubscribeEvent{TypeURL: ads.RouteType, Names: []string{"b", "c"}})
	next(t, m, ads.Request{TypeURL: ads.RouteType, Version: "9", Nonce: "r1"})

	// A new stream: versions stay, nonces go, types without a name are not asked for.
	m.Step(ads.ClosedEvent{})
	quiet(t, m)
	m.Step(ads.OpenedEvent{})
	next(t, m, ads.Request{TypeURL: ads.ClusterType, Node: true, Version: "1"})
	quiet(t, m)
}

func TestDeltaSubscriptions(t *testing.T) {
	m := ads.NewMachine(ads.Delta, true)
	m.Step(ads.SubscribeEvent{TypeURL: ads.ClusterType})
	m.Step(ads.SubscribeEvent{TypeURL: ads.EndpointType, Names: []string{"e2", "e1"}})
	m.Step(ads.OpenedEvent{})
	next(t, m, ads.Request{TypeURL: ads.ClusterType, Node: true})
	next(t, m, ads.Request{TypeURL: ads.EndpointType, Subscribe: []string{"e1", "e2"}})

	receive(t, m, ads.Response{TypeURL: ads.ClusterType, Version: "s", Nonce: "1", Resources: []ads.Resource{
		res(ads.ClusterType, "a", "v1", "a"), res(ads.ClusterType, "b", "v1", "b"),
	}})
	next(t, m, ads.Request{TypeURL: ads.ClusterType, Nonce: "1"})
	receive(t, m, ads.Response{TypeURL: ads.EndpointType, Nonce: "2", Resources: []ads.Resource{res(ads.EndpointType, "e1", "v1", "e")}})
	m.Step(ads.SubscribeEvent{TypeURL: ads.EndpointType, Names: []string{"e3"}})
	m.Step(ads.UnsubscribeEvent{TypeURL: ads.EndpointType, Names: []string{"e2"}})
	next(t, m, ads.Request{TypeURL: ads.EndpointType, Nonce: "2", Subscribe: []string{"e3"}, Unsubscribe: []string{"e2"}})

	// Taken out and put back before anything was sent: asked for again, since the server may have to resend.
	m.Step(ads.UnsubscribeEvent{TypeURL: ads.EndpointType, Names: []string{"e1"}})
	m.Step(ads.SubscribeEvent{TypeURL: ads.EndpointType, Names: []string{"e1"}})
	next(t, m, ads.Request{TypeURL: ads.EndpointType, Subscribe: []string{"e1"}})
	u := receive(t, m, ads.Response{TypeURL: ads.EndpointType, Nonce: "3", Resources: []ads.Resource{res(ads.EndpointType, "e1", "v1", "e")}})
	if names(u.Changed) != "e1" {
		t.Errorf("a name subscribed again delivers %+v, want it again although its bytes are the same", u)
	}
	next(t, m, ads.Request{TypeURL: ads.EndpointType, Nonce: "3"})

	// Names beside a wildcard that was implied make it explicit.
	m.Step(ads.SubscribeEvent{TypeURL: ads.ClusterType, Names: []string{"extra"}})
	next(t, m, ads.Request{TypeURL: ads.ClusterType, Subscribe: []string{"*", "extra"}})

	// A new stream names what is held.
	m.Step(ads.ClosedEvent{})
	m.Step(ads.OpenedEvent{})
	next(t, m, ads.Request{
		TypeURL: ads.ClusterType, Node: true, Subscribe: []string{"*", "extra"}, Initial: map[string]string{"a": "v1", "b": "v1"},
	})
	next(t, m, ads.Request{TypeURL: ads.EndpointType, Subscribe: []string{"e1", "e3"}, Initial: map[string]string{"e1": "v1"}})
	u = receive(t, m, ads.Response{TypeURL: ads.ClusterType, Nonce: "1", Removed: []string{"b", "never-had"}})
	if !reflect.DeepEqual(u.Removed, []string{"b"}) {
		t.Errorf("removed %v, want b only", u.Removed)
	}
	u = receive(t, m, ads.Response{TypeURL: ads.EndpointType, Nonce: "2", Removed: []string{"e3"}})
	if !reflect.DeepEqual(u.Removed, []string{"e3"}) {
		t.Errorf("removed %v, want e3: that a subscribed name doesn't exist is an answer", u.Removed)
	}
}

func TestPartialAcceptance(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		m := ads.NewMachine(v, true)
		m.Step(ads.SubscribeEvent{TypeURL: ads.ClusterType})
		m.Step(ads.OpenedEvent{})
		m.Next()
		first := []ads.Resource{res(ads.ClusterType, "a", "v1", "a1"), res(ads.ClusterType, "b", "v1", "b1")}
		receive(t, m, ads.Response{TypeURL: ads.ClusterType, Version: "v1", Nonce: "1", Resources: first})
		m.Next()

		second := ads.Response{TypeURL: ads.ClusterType, Version: "v2", Nonce: "2", Resources: []ads.Resource{
			res(ads.ClusterType, "a", "v2", "a2"), // refused by the handler
			res(ads.ClusterType, "b", "v1", "b1"), // unchanged
			res(ads.ClusterType, "c", "v2", "c2"), // new, good
			res(ads.ClusterType, "c", "v2", "c3"), // named twice
			res(ads.RouteType, "d", "v2", "d"),    // of another type
			{Name: "e", Version: "v2"},            // no body
		}, Malformed: []ads.Refusal{{Name: "resources[6]", Err: errors.New("resource has no name")}}}
		u := receive(t, m, second, ads.Refusal{Name: "a", Err: errors.New("lb_policy: unknown")})
		if got := names(u.Changed); got != "a c" || u.Unchanged != 1 || len(u.Removed) != 0 {
			t.Errorf("delivered changed %q, %d unchanged, removed %v; want a c, 1, none", got, u.Unchanged, u.Removed)
		}
		r, _ := m.Next()
		for _, want := range []string{"a: lb_policy: unknown", "c: named twice", "d: type", "e: no resource body", "resources[6]: resource has no name", "5 of 7 refused"} {
			if !strings.Contains(r.Error, want) {
				t.Errorf("the NACK says %q, want it to say %q", r.Error, want)
			}
		}
		if v == ads.SotW && r.Version != "v1" {
			t.Errorf("the NACK carries version %q, want the last accepted v1", r.Version)
		}
		st := m.Stats().Types[ads.ClusterType]
		if st.UpdateSuccess != 1 || st.UpdateRejected != 1 || st.VersionText != "v1" || st.Resources != 3 {
			t.Errorf("stats %+v, want 1 success, 1 rejected, version v1, 3 resources", st)
		}
		// Refused once, offered again when it comes again; the others are not.
		u = receive(t, m, ads.Response{TypeURL: ads.ClusterType, Version: "v3", Nonce: "3", Resources: []ads.Resource{
			res(ads.ClusterType, "a", "v2", "a2"), res(ads.ClusterType, "b", "v1", "b1"), res(ads.ClusterType, "c", "v2", "c2"),
		}})
		if names(u.Changed) != "a" {
			t.Errorf("delivered %q, want the refused a again", names(u.Changed))
		}
	})
}

func TestWildcardSotWRemovesWhatIsMissing(t *testing.T) {
	m := ads.NewMachine(ads.SotW, true)
	m.Step(ads.SubscribeEvent{TypeURL: ads.ListenerType})
	m.Step(ads.OpenedEvent{})
	m.Next()
	a, b := res(ads.ListenerType, "a", "1", "a"), res(ads.ListenerType, "b", "1", "b")
	if u := receive(t, m, ads.Response{TypeURL: ads.ListenerType, Version: "1", Nonce: "1", Resources: []ads.Resource{a, b}}); !u.First {
		t.Error("the first response isn't marked First")
	}
	// The control plane is away while b goes; the new stream's answer says so.
	m.Step(ads.ClosedEvent{})
	m.Step(ads.OpenedEvent{})
	m.Next()
	u := receive(t, m, ads.Response{TypeURL: ads.ListenerType, Version: "2", Nonce: "1", Resources: []ads.Resource{a}})
	if !reflect.DeepEqual(u.Removed, []string{"b"}) || u.First {
		t.Errorf("removed %v first=%v, want b, false", u.Removed, u.First)
	}
	// An unreadable resource may be the missing one: nothing is removed then.
	u = receive(t, m, ads.Response{TypeURL: ads.ListenerType, Version: "3", Nonce: "2", Malformed: []ads.Refusal{{Name: "resources[0]", Err: errors.New("damaged")}}})
	if len(u.Removed) != 0 {
		t.Errorf("a response with an unreadable resource removed %v", u.Removed)
	}
	u = receive(t, m, ads.Response{TypeURL: ads.ListenerType, Version: "4", Nonce: "3"})
	if !reflect.DeepEqual(u.Removed, []string{"a"}) {
		t.Errorf("an empty complete set removed %v, want a", u.Removed)
	}
}

// Clusters and listeners that are asked for by name are a complete set, too: what is missing
// in a response was removed. Other types say nothing by leaving a name out.
func TestNamedSotWRemovesWhatIsMissing(t *testing.T) {
	for url, want := range map[string][]string{ads.ClusterType: {"b"}, ads.ListenerType: {"b"}, ads.EndpointType: nil} {
		m := ads.NewMachine(ads.SotW, true)
		m.Step(ads.SubscribeEvent{TypeURL: url, Names: []string{"a", "b"}})
		m.Step(ads.OpenedEvent{})
		m.Next()
		a, b := res(url, "a", "1", "a"), res(url, "b", "1", "b")
		receive(t, m, ads.Response{TypeURL: url, Version: "1", Nonce: "1", Resources: []ads.Resource{a, b}})
		u := receive(t, m, ads.Response{TypeURL: url, Version: "2", Nonce: "2", Resources: []ads.Resource{a}})
		if !reflect.DeepEqual(u.Removed, want) {
			t.Errorf("%s: removed %v, want %v", ads.ShortType(url), u.Removed, want)
		}
	}
}

func TestInitialFetchTimeout(t *testing.T) {
	m := ads.NewMachine(ads.Delta, true)
	timers := func(effects []ads.Effect) (started, stopped []uint64) {
		for _, e := range effects {
			switch e := e.(type) {
			case ads.StartTimer:
				started = append(started, e.ID)
				if e.After != 15*time.Second {
					t.Errorf("timer of %v, want 15 s", e.After)
				}
			case ads.StopTimer:
				stopped = append(stopped, e.ID)
			}
		}
		return started, stopped
	}
	ids, _ := timers(m.Step(ads.SubscribeEvent{TypeURL: ads.EndpointType, FetchTimeout: ads.DefaultFetchTimeout, Names: []string{"a", "b", "c"}}))
	if len(ids) != 3 {
		t.Fatalf("%d timers, want one for each name", len(ids))
	}
	if again, _ := timers(m.Step(ads.SubscribeEvent{TypeURL: ads.EndpointType, FetchTimeout: ads.DefaultFetchTimeout, Names: []string{"a"}})); again != nil {
		t.Errorf("subscribing again started timers %v", again)
	}
	if none, _ := timers(m.Step(ads.SubscribeEvent{TypeURL: ads.ClusterType})); none != nil {
		t.Errorf("timeout 0 started timers %v, it means to wait for ever", none)
	}
	m.Step(ads.OpenedEvent{})
	m.Next()
	m.Next()
	_, stopped := timers(m.Step(ads.ReceivedEvent{Response: ads.Response{TypeURL: ads.EndpointType, Nonce: "1",
		Resources: []ads.Resource{res(ads.EndpointType, "a", "1", "a")}, Removed: []string{"c"}}}))
	if !reflect.DeepEqual(stopped, ids[:1]) {
		t.Errorf("stopped timers %v, want that of a (sent), and c (which may still come) to wait", stopped)
	}
	m.Step(ads.AppliedEvent{TypeURL: ads.EndpointType})
	if got := m.Step(ads.TimerEvent{ID: ids[0]}); got != nil {
		t.Errorf("a timer that went off after it was stopped caused %v", got)
	}
	want := []ads.Effect{ads.TimedOut{TypeURL: ads.EndpointType, Name: "b"}}
	if got := m.Step(ads.TimerEvent{ID: ids[1]}); !reflect.DeepEqual(got, want) {
		t.Errorf("the timer of b caused %v, want %v", got, want)
	}
	if n := m.Stats().Types[ads.EndpointType].InitFetchTimeout; n != 1 {
		t.Errorf("init_fetch_timeout is %d, want 1", n)
	}
}

func TestRefreshDeliversTheSameBytesAgain(t *testing.T) {
	m := ads.NewMachine(ads.Delta, true)
	m.Step(ads.SubscribeEvent{TypeURL: ads.EndpointType, Names: []string{"a"}})
	m.Step(ads.OpenedEvent{})
	m.Next()
	same := ads.Response{TypeURL: ads.EndpointType, Nonce: "1", Resources: []ads.Resource{res(ads.EndpointType, "a", "1", "a")}}
	receive(t, m, same)
	m.Next()
	if u := receive(t, m, same); len(u.Changed) != 0 || u.Unchanged != 1 {
		t.Errorf("equal bytes delivered as %+v", u)
	}
	m.Next()
	m.Step(ads.RefreshEvent{TypeURL: ads.EndpointType, Names: []string{"a", "stranger"}})
	next(t, m, ads.Request{TypeURL: ads.EndpointType, Subscribe: []string{"a"}})
	if u := receive(t, m, same); names(u.Changed) != "a" {
		t.Errorf("after Refresh %+v is delivered, want a", u)
	}
}

func TestReconnectCountsAndNodeOnEveryMessage(t *testing.T) {
	m := ads.NewMachine(ads.SotW, false)
	m.Step(ads.SubscribeEvent{TypeURL: ads.ClusterType})
	for want := range 3 {
		if got := m.Step(ads.ClosedEvent{}); !reflect.DeepEqual(got, []ads.Effect{ads.Reconnect{Attempt: want}}) {
			t.Errorf("lost stream %d caused %v", want, got)
		}
	}
	m.Step(ads.OpenedEvent{})
	next(t, m, ads.Request{TypeURL: ads.ClusterType, Node: true})
	receive(t, m, ads.Response{TypeURL: ads.ClusterType, Version: "1", Nonce: "1"})
	next(t, m, ads.Request{TypeURL: ads.ClusterType, Node: true, Version: "1", Nonce: "1"})
	if got := m.Step(ads.ClosedEvent{}); !reflect.DeepEqual(got, []ads.Effect{ads.Reconnect{Attempt: 0}}) {
		t.Errorf("after a stream that brought something: %v, want the back-off to start anew", got)
	}
	if st := m.Stats(); st.Connected || st.Types[ads.ClusterType].UpdateFailure != 4 {
		t.Errorf("stats %+v, want not connected and 4 failures", st)
	}
}

func TestNobodyAsked(t *testing.T) {
	m := ads.NewMachine(ads.SotW, true)
	m.Step(ads.OpenedEvent{})
	if u := receive(t, m, ads.Response{TypeURL: ads.SecretType, Nonce: "1", Resources: []ads.Resource{res(ads.SecretType, "s", "1", "s")}}); u != nil {
		t.Errorf("delivered %+v", u)
	}
	quiet(t, m)
	if m.Stats().Ignored != 1 {
		t.Error("an answer nobody asked for isn't counted")
	}
}

func TestErrorDetailIsBounded(t *testing.T) {
	m := ads.NewMachine(ads.Delta, true)
	m.Step(ads.SubscribeEvent{TypeURL: ads.ClusterType})
	m.Step(ads.OpenedEvent{})
	m.Next()
	var bad []ads.Refusal
	for range 1000 {
		bad = append(bad, ads.Refusal{Name: "ä", Err: errors.New(strings.Repeat("ö", 50))})
	}
	receive(t, m, ads.Response{TypeURL: ads.ClusterType, Nonce: "1"}, bad...)
	r, _ := m.Next()
	if len(r.Error) > ads.MaxErrorDetail || !strings.HasSuffix(r.Error, "...(truncated)") || strings.ToValidUTF8(r.Error, "?") != r.Error {
		t.Errorf("%d bytes ending in %q", len(r.Error), r.Error[len(r.Error)-30:])
	}
}

func TestBackoff(t *testing.T) {
	for _, tc := range []struct {
		attempt  int
		random   float64
		min, max time.Duration
	}{
		{0, 0, 250 * time.Millisecond, 250 * time.Millisecond},
		{0, 0.999, 490 * time.Millisecond, 500 * time.Millisecond},
		{3, 0.999, 3900 * time.Millisecond, 4 * time.Second},
		{6, 0.999, 29 * time.Second, 30 * time.Second},
		{1 << 30, 0.999, 29 * time.Second, 30 * time.Second},
	} {
		if d := (ads.Backoff{}).Delay(tc.attempt, tc.random); d < tc.min || d > tc.max {
			t.Errorf("attempt %d, random %v: %v, want %v to %v", tc.attempt, tc.random, d, tc.min, tc.max)
		}
	}
}
