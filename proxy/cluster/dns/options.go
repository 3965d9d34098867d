package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Options say how a resolver differs from what the files of the machine say
// (CaresDnsResolverConfig). The zero value differs in nothing.
type Options struct {
	Servers  []netip.AddrPort // in place of those of resolv.conf
	Fallback bool             // Servers are for a resolv.conf that names none (use_resolvers_as_fallback)
	TCP      bool             // use_tcp_for_dns_lookups
	NoSearch bool             // no_default_search_domain
	Rotate   bool             // rotate_nameservers
	Timeout  time.Duration    // of each try at a server; 0 is that of resolv.conf
	Tries    int              // at each server; 0 is that of resolv.conf
	UDPSize  int              // edns0_max_payload_size; 0 is 1232
	// Routable leaves out families in which the machine has no address but those of its
	// loopback (filter_unroutable_families).
	Routable bool
}

// With returns a resolver of the machine's files with some things changed. It reaches
// the servers through dial.
func With(o Options, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Resolver {
	r := SystemVia(dial)
	r.options = o
	return r
}

// config returns what resolv.conf says, changed by the options.
func (r *Resolver) config() *config {
	read := r.conf.get()
	o := &r.options
	c := *read
	if len(o.Servers) > 0 && (!o.Fallback || !read.named) {
		c.servers = make([]string, 0, len(o.Servers))
		for _, s := range o.Servers {
			c.servers = append(c.servers, s.String())
		}
	}
	if o.NoSearch {
		c.search = nil
	}
	c.tcp = c.tcp || o.TCP
	c.rotate = c.rotate || o.Rotate
	if o.Timeout > 0 {
		c.timeout = o.Timeout
	}
	if o.Tries > 0 {
		c.attempts = o.Tries
	}
	if o.UDPSize > 0 {
		c.udpSize = o.UDPSize
	}
	return &c
}

// routable leaves out of want the families that lead nowhere from here. Where none is
// left, nothing is left out: who asks is told so by connecting.
func routable(want Want, addrs []net.Addr) Want {
	var have Want
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLoopback() || n.IP.IsLinkLocalUnicast() {
			continue
		}
		if n.IP.To4() != nil {
			have |= V4
		} else {
			have |= V6
		}
	}
	if want&have == 0 {
		return want
	}
	return want & have
}

// wanted returns which families are asked for.
func (r *Resolver) wanted(want Want) Want {
	if !r.options.Routable {
		return want
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return want
	}
	return routable(want, addrs)
}

// Equal reports whether two sets of options say the same.
func (o *Options) Equal(p *Options) bool {
	if o == nil || p == nil {
		return o == p
	}
	return slices.Equal(o.Servers, p.Servers) && o.Fallback == p.Fallback && o.TCP == p.TCP && o.NoSearch == p.NoSearch &&
		o.Rotate == p.Rotate && o.Timeout == p.Timeout && o.Tries == p.Tries && o.UDPSize == p.UDPSize && o.Routable == p.Routable
}
