package cluster

// failed closes what leads to a host that was found to be ill: idle connections now,
// busy ones when they are given back. With cut, raw connections end at once
// (close_connections_on_host_health_failure).
func (ep *endpoint) failed(cut bool) {
	for i := range ep.pools {
		base := &ep.pools[i]
		p := base.pool
		p.mu.Lock()
		ep.before[i] = p.group.m.now() + 1
		gone := unlistAll(&base.ready)
		for _, v := range base.variants {
			gone = append(gone, unlistAll(&v.ready)...)
		}
		if cut {
			for n := ep.raw[i].front; n != nil; n = n.next {
				n.owner.Cut()
			}
		}
		p.mu.Unlock()
		p.discardAll(gone)
	}
}

// old reports whether a connection is from before its host was ill. The lock is held.
func (c *Conn) old() bool { return c.made < c.hp.ep.before[c.hp.pool.priority] }

// list lists a raw connection with its host, for failed.
func (c *TCPConn) list() {
	p := c.hp.pool
	c.link.owner = c
	p.mu.Lock()
	c.hp.ep.raw[p.priority].pushBack(&c.link)
	p.mu.Unlock()
}

func (c *TCPConn) unlist() {
	p := c.hp.pool
	p.mu.Lock()
	c.link.leave()
	p.mu.Unlock()
}
