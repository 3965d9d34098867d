package cluster

import (
	"time"

	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/cluster/health"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// Host is one endpoint as the newest assignment describes it. It is immutable; when
// an assignment changes, new Hosts take over the connections and counters of those
// with the same address.
type Host struct {
	Addr     meta.Addr
	Hostname string // for auto_host_rewrite; the name that was looked up for a host found by DNS
	Metadata map[string]map[string]any
	Weight   uint32 // 1 or more
	Health   Health
	Priority uint32

	Region, Zone, SubZone string

	extra    []meta.Addr               // additional_addresses
	tlvs     []transport.TLV           // its own, for PROXY protocol
	locality map[string]map[string]any // metadata of the locality
	labels   Labels                    // of envoy.lb; a key of a list is there once for each value, too
	canary   bool
	check    *HostCheck
	// hashKey is what rings and tables know the host by; "" is its address
	// (envoy.lb {hash_key}).
	hashKey string
	from    *HostSpec // of the newest assignment; for who holds Cluster.making
	ep      *endpoint
}

// Canary reports whether the host's metadata says envoy.lb {canary: true}.
func (h *Host) Canary() bool { return h.canary }

// Stats returns the host's counters.
func (h *Host) Stats() *HostStats { return &h.ep.stats }

// Same reports whether h and o are the same endpoint, perhaps of two assignments.
func (h *Host) Same(o *Host) bool { return h == o || h != nil && o != nil && h.ep == o.ep }

// endpoint is what a host keeps from assignment to assignment: its connections and
// counters.
type endpoint struct {
	stats   HostStats
	load    hostLoad
	outlier atomic.Pointer[outlier.Monitor] // nil: nobody watches its answers
	checks  atomic.Pointer[health.Session]  // nil: nobody checks it
	// flags are HealthFlags, without those of discovery.
	flags atomic.Uint32
	// healthySince is when the host came, or was last found healthy again, in
	// nanoseconds since the manager's start, and one more; 0 is unknown.
	healthySince atomic.Int64
	begun        bool             // it has its first flags; guarded by the manager's lock
	pools        [2]hostPool      // by Priority
	open         [2]int           // connections, of all variants; guarded by the lock of the pool of that priority
	raw          [2]list[TCPConn] // open raw connections; guarded as open
	before       [2]time.Duration // what was made earlier is not kept; guarded as open
}

func newEndpoint(g *group) *endpoint {
	ep := &endpoint{}
	for i := range ep.pools {
		hp := &ep.pools[i]
		hp.ep, hp.pool = ep, &g.pools[i]
		hp.need.owner = hp
	}
	return ep
}

// retire closes the host's idle connections; busy ones are closed when they are
// released.
func (ep *endpoint) retire() {
	for i := range ep.pools {
		ep.pools[i].pool.retire(&ep.pools[i])
	}
}
