package cluster

import "github.com/mecha-mesh/mecha/proxy/runtime"

// maintenance is the share of a cluster's requests that an operator wants refused.
func maintenance(s *Spec, r *runtime.Runtime) runtime.FractionValue {
	setting := runtime.FractionSetting{Key: "upstream.maintenance_mode." + s.Name, Default: runtime.Fraction{Denominator: 100}}
	return setting.On(r)
}

// InMaintenance reports whether a request is to be answered with 503 because an operator
// has said so (runtime key upstream.maintenance_mode.NAME), and counts that.
func (c *Cluster) InMaintenance() bool {
	k := c.running().core
	share := k.maintenance.Get()
	if share.Numerator == 0 || !share.Match(c.m.rnd()) {
		return false
	}
	k.stats.UpstreamRqMaintenanceMode.Inc()
	return true
}
