package headermutation

import (
	"strings"
	"testing"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func add(key, value string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: key, Value: value},
	}}}
}

func remove(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

func onRequest(m ...*mutationv3.HeaderMutation) *headermutationv3.HeaderMutation {
	return &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{RequestMutations: m}}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, want string
		pb         *headermutationv3.HeaderMutation
	}{
		{"operator", `mutations.request_mutations[1].append.header: accesslog: format: position 0: unknown operator "NO"`, onRequest(add("a", "b"), add("c", "%NO%"))},
		{"pseudo-header", "mutations.request_mutations[0].append.header: :-prefixed or host headers may not be modified", onRequest(add(":path", "/"))},
		{"host", "mutations.request_mutations[0].remove: :-prefixed or host headers may not be modified", onRequest(remove("Host"))},
		{"line end", "mutations.request_mutations[0].append.header.value", onRequest(add("a", "b\r\nc: d"))},
		{"no action", "mutations.request_mutations[0].action: is required", onRequest(&mutationv3.HeaderMutation{})},
		{"query", "mutations.query_parameter_mutations: this build does not support", &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
			QueryParameterMutations: []*corev3.KeyValueMutation{{Remove: "q"}},
		}}},
		{"formatter", `mutations.formatters[0].typed_config: is required`, &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
			Formatters: []*corev3.TypedExtensionConfig{{Name: "f"}},
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(encode(t, c.pb), &filter.Parser{})
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want an error that begins %q", err, c.want)
			}
		})
	}
}

// levels is a route with a configuration at two levels.
type levels struct{ host, route *Config }

func (levels) Name() string                         { return "" }
func (l levels) Override(filter.Slot) any           { return l.route }
func (levels) Disabled(filter.Slot) (off, set bool) { return false, false }
func (l levels) Overrides(_ filter.Slot, yield func(any) bool) {
	if yield(l.host) {
		yield(l.route)
	}
}

// TestAllocs: mutations with values made of operators, at three levels, cost no memory.
func TestAllocs(t *testing.T) {
	config := func(level string) *Config {
		c, err := parse(encode(t, onRequest(
			add("x-"+level, "%REQ(:PATH)% %PROTOCOL%"), remove("x-gone"), add("x-all", level),
			&mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
				KeyMatcher: &typev3.StringMatcher{MatchPattern: &typev3.StringMatcher_Prefix{Prefix: "y-"}},
			}}},
		)), &filter.Parser{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	factory, err := Spec.New(config("filter"), filter.Env{Stats: stats.NewStore()})
	if err != nil {
		t.Fatal(err)
	}
	f := factory().(*Filter)
	s := &filter.Stream{Route: levels{config("host"), config("route")}}
	run := func() {
		s.Request.Reset()
		s.Request.AddID(header.Path, "/p")
		s.Request.Add("x-gone", "1")
		s.Request.Add("y-1", "1")
		if err := f.OnRequestHeaders(s, true); err != nil {
			t.Fatal(err)
		}
		f.Reset()
	}
	if n := testing.AllocsPerRun(100, run); n != 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
	got := ""
	for k, v := range s.Request.All() {
		got += k + "=" + v + ";"
	}
	if want := ":path=/p;x-filter=/p ;x-all=filter;x-route=/p ;x-all=route;x-host=/p ;x-all=host;"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
