package fault

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Network describes the filter of connections. It is not Envoy's, which has faults for HTTP
// and for some protocols only.
var Network = filter.NetworkSpec[*ConnConfig]{
	Name:  "mecha.filters.network.fault",
	Type:  "mecha.filters.network.fault.v1.Fault",
	Parse: parseNetwork,
	New:   newNetwork,
}

// ConnConfig is the parsed configuration of the filter of connections.
type ConnConfig struct {
	StatPrefix   string
	Delay        time.Duration
	DelayPercent match.Fraction // of connections
	AbortPercent match.Fraction
	Most         int64 // faults at a time
}

// connCounters is fault.<stat_prefix>.*.
type connCounters struct {
	Delays   stats.Counter `stat:"delays_injected" help:"connections that were delayed"`
	Aborts   stats.Counter `stat:"aborts_injected" help:"connections that were closed"`
	Overflow stats.Counter `stat:"faults_overflow" help:"faults of connections left out because there were max_active_faults"`
	Active   stats.Gauge   `stat:"active_faults" help:"connections that are being delayed"`
}

func newNetwork(c *ConnConfig, env filter.Env) (func() filter.Network, error) {
	n, release := stats.Shared[connCounters](env.Stats, "fault", "", c.StatPrefix)
	env.OnRetire(release)
	f := &connFault{config: c, connCounters: n}
	return func() filter.Network { return f }, nil
}

// connFault serves all connections: it has no state of one.
type connFault struct {
	*connCounters
	config *ConnConfig
}

var _ filter.ConnOpener = (*connFault)(nil)

// Reset implements filter.Network.
func (*connFault) Reset() {}

var errAborted = errors.New("fault: the connection was chosen to fail")

// OnConn implements filter.ConnOpener. A delay may be followed by the end.
func (f *connFault) OnConn(c *filter.Conn) error {
	if f.config.DelayPercent.Match(chance()) {
		if err := f.delay(c); err != nil {
			return err
		}
	}
	if !f.config.AbortPercent.Match(chance()) {
		return nil
	}
	f.Aborts.Inc()
	c.Log.Flags |= meta.FaultInjected
	c.Meta.Termination = "fault_filter_abort"
	return errAborted
}

func (f *connFault) delay(c *filter.Conn) error {
	f.Active.Inc()
	defer f.Active.Dec()
	if f.Active.Value() > f.config.Most {
		f.Overflow.Inc()
		return nil
	}
	f.Delays.Inc()
	c.Log.Flags |= meta.DelayInjected
	t := time.NewTimer(f.config.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.Engine.Context().Done():
		return c.Engine.Context().Err()
	}
}
