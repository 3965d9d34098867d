package fault

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters is http.<stat_prefix>.fault.*.
type counters struct {
	Delays   stats.Counter `stat:"delays_injected" help:"requests that were delayed"`
	Aborts   stats.Counter `stat:"aborts_injected" help:"requests that were answered with an error"`
	Overflow stats.Counter `stat:"faults_overflow" help:"faults left out because there were max_active_faults"`
	Limited  stats.Counter `stat:"response_rl_injected" help:"responses that were slowed down"`
	Active   stats.Gauge   `stat:"active_faults" help:"faults under way"`
}

// byDownstream is http.<stat_prefix>.fault.<cluster of the client>.*.
type byDownstream struct {
	Delays stats.Counter `stat:"delays_injected" help:"requests of that cluster that were delayed"`
	Aborts stats.Counter `stat:"aborts_injected" help:"requests of that cluster that were answered with an error"`
}

// maxDownstreams is how many clusters of clients are told apart: their names come with
// requests.
const maxDownstreams = 100

// shared is what the streams of a filter have in common.
type shared struct {
	*counters
	own     *Config
	slot    filter.Slot
	name    string
	parent  *stats.Scope
	runtime *runtime.Runtime

	mu       sync.Mutex
	releases []func()
	from     atomic.Pointer[map[string]*downstream]
}

// downstream is what there is for a cluster of clients.
type downstream struct {
	*byDownstream
	delayPercent, abortPercent          runtime.FractionValue
	delayMillis, httpStatus, grpcStatus override
}

// unset is a share that nobody configures: the runtime does not have the key.
var unset = match.Fraction{Numerator: math.MaxUint32, Denominator: 1}

// override is a number of the runtime, if it has one.
type override struct{ value runtime.UintValue }

func (o override) or(n uint64) uint64 {
	if v := o.value.Get(); v != math.MaxUint64 {
		return v
	}
	return n
}

const wellKnown = "envoy.filters.http.fault"

func newShared(c *Config, env filter.Env) *shared {
	sh := &shared{own: c, slot: env.Slot, name: cmp.Or(env.Name, wellKnown), parent: env.Parent, runtime: env.Runtime}
	var release func()
	sh.counters, release = stats.SharedUnder[counters](env.Parent, stats.Label{Value: "fault"})
	sh.releases = append(sh.releases, release)
	env.OnRetire(func() {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		for _, release := range sh.releases {
			release()
		}
		sh.releases = nil
	})
	return sh
}

// downstream returns what there is for a cluster of clients, nil if there are too many.
func (sh *shared) downstream(name string) *downstream {
	old := sh.from.Load()
	if old != nil {
		if d := (*old)[name]; d != nil || len(*old) >= maxDownstreams {
			return d
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	next := map[string]*downstream{}
	if old = sh.from.Load(); old != nil {
		if d := (*old)[name]; d != nil || len(*old) >= maxDownstreams {
			return d
		}
		maps.Copy(next, *old)
	}
	d := sh.newDownstream(string([]byte(name))) // it is lent
	next[string([]byte(name))] = d
	sh.from.Store(&next)
	return d
}

func (sh *shared) newDownstream(name string) *downstream {
	prefix := "fault.http." + name + "."
	share := func(key string) runtime.FractionValue {
		return runtime.FractionSetting{Key: prefix + key, Default: unset}.On(sh.runtime)
	}
	n := func(key string) override {
		return override{runtime.UintSetting{Key: prefix + key, Default: math.MaxUint64}.On(sh.runtime)}
	}
	d := &downstream{
		delayPercent: share("delay.fixed_delay_percent"), abortPercent: share("abort.abort_percent"),
		delayMillis: n("delay.fixed_duration_ms"), httpStatus: n("abort.http_status"), grpcStatus: n("abort.grpc_status"),
	}
	var release func()
	d.byDownstream, release = stats.SharedUnder[byDownstream](sh.parent, stats.Label{Value: "fault"}, stats.Label{Name: "envoy_fault_downstream_cluster", Value: name})
	sh.releases = append(sh.releases, release)
	return d
}

// chance is a number for one decision: faults are independent of each other.
func chance() uint64 { return rand.Uint64() }
