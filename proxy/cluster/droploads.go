package cluster

// DropOverload reports whether a request is to be answered with 503 because discovery
// says that the cluster is overloaded (ClusterLoadAssignment.policy.drop_overloads). all
// says that this is the fate of every request. Who asks counts nothing.
func (c *Cluster) DropOverload() (drop, all bool) {
	r := c.running()
	if r.hosts == nil || r.hosts.drop == 0 {
		return false, false
	}
	d := r.hosts.drop
	if d < 1 && float64(c.m.rnd()>>11)/(1<<53) >= d {
		return false, false
	}
	r.core.stats.UpstreamRqDropOverload.Inc()
	return true, d >= 1
}
