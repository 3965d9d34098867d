// Package dns looks up the addresses of a name and how long they are good for, which
// package net doesn't tell: hosts file, search domains, several servers, UDP and TCP
// (RFC 1035, RFC 6891), as resolv.conf(5) and hosts(5) say.
//
// It caches nothing: who asks knows when to ask again. Sources that nsswitch.conf(5)
// may name besides "files dns" (mDNS, LDAP) are not here.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Want says which addresses are looked up.
type Want uint8

// The address families.
const (
	V4 Want = 1 << iota
	V6
)

// Answer is what was found. A name that does not exist, and one that has no
// addresses, is found to have none: that is an Answer, too.
type Answer struct {
	V4, V6 []netip.Addr
	TTL    time.Duration // least of all records; 0 if unknown, as from the hosts file
}

// Resolver looks names up. It is safe for concurrent use.
type Resolver struct {
	conf    file[config]
	hosts   file[hosts]
	options Options
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// FromFiles returns a resolver that does what these two files say. They are read again
// when they change.
func FromFiles(resolvConf, hostsFile string) *Resolver {
	return fromFiles(resolvConf, hostsFile, new(net.Dialer).DialContext)
}

// SystemVia does what the files of the machine say, and reaches the servers through dial.
func SystemVia(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Resolver {
	return fromFiles("/etc/resolv.conf", "/etc/hosts", dial)
}

func fromFiles(resolvConf, hostsFile string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *Resolver {
	r := &Resolver{dial: dial}
	r.conf.path, r.conf.parse = resolvConf, parseConfig
	r.hosts.path, r.hosts.parse = hostsFile, parseHosts
	return r
}

// Lookup returns the addresses of a name. An error says that they could not be found
// out: no server answered, or none could.
func (r *Resolver) Lookup(ctx context.Context, name string, want Want) (Answer, error) {
	if a, ok := literal(name, want); ok {
		return a, nil
	}
	if a, ok := r.hosts.get().lookup(name, want); ok {
		return a, nil
	}
	want = r.wanted(want)
	c := r.config()
	var failed error
	for _, fqdn := range c.candidates(name) {
		a, err := r.lookupName(ctx, c, fqdn, want)
		switch {
		case err != nil && failed == nil:
			failed = fmt.Errorf("dns: lookup of %s: %w", fqdn, err)
		case err == nil && len(a.V4)+len(a.V6) > 0:
			return a, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return Answer{}, failed
}

// literal answers for what needs no lookup: addresses, and localhost (RFC 6761).
func literal(name string, want Want) (Answer, bool) {
	if ip, err := netip.ParseAddr(name); err == nil {
		return pick(want, ip), true
	}
	switch strings.ToLower(strings.TrimSuffix(name, ".")) {
	case "localhost":
		return pick(want, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()), true
	case "":
		return Answer{}, true
	}
	return Answer{}, false
}

// pick sorts addresses by family and leaves out what is not wanted.
func pick(want Want, ips ...netip.Addr) Answer {
	var a Answer
	for _, ip := range ips {
		switch ip = ip.Unmap(); {
		case ip.Is4() && want&V4 != 0:
			a.V4 = append(a.V4, ip)
		case ip.Is6() && want&V6 != 0:
			a.V6 = append(a.V6, ip)
		}
	}
	return a
}

// lookupName asks for one name, for both families at a time.
func (r *Resolver) lookupName(ctx context.Context, c *config, fqdn string, want Want) (Answer, error) {
	name, err := dnsmessage.NewName(fqdn)
	if err != nil {
		return Answer{}, nil // too long to exist
	}
	types := make([]dnsmessage.Type, 0, 2)
	if want&V4 != 0 {
		types = append(types, dnsmessage.TypeA)
	}
	if want&V6 != 0 {
		types = append(types, dnsmessage.TypeAAAA)
	}
	type result struct {
		a   Answer
		err error
	}
	results := make(chan result, len(types))
	for _, t := range types {
		go func() {
			a, err := r.ask(ctx, c, dnsmessage.Question{Name: name, Type: t, Class: dnsmessage.ClassINET})
			results <- result{a, err}
		}()
	}
	var all Answer
	var failed error
	for range types {
		one := <-results
		if one.err != nil {
			failed = one.err
			continue
		}
		all.V4, all.V6 = append(all.V4, one.a.V4...), append(all.V6, one.a.V6...)
		if len(one.a.V4)+len(one.a.V6) > 0 && (all.TTL == 0 || one.a.TTL < all.TTL) {
			all.TTL = one.a.TTL
		}
	}
	if len(all.V4)+len(all.V6) > 0 { // a server that knows nothing of AAAA must not hide the A
		return all, nil
	}
	return all, failed
}

// errNoServer is what there is to say if every server failed for the same dull reason.
var errNoServer = errors.New("no server answered")

// ask asks one server after the other.
func (r *Resolver) ask(ctx context.Context, c *config, q dnsmessage.Question) (Answer, error) {
	err := errNoServer
	for range c.attempts {
		for _, server := range c.order() {
			var a Answer
			a, err = r.exchange(ctx, c, server, q)
			if err == nil {
				return a, nil
			}
			if ctx.Err() != nil {
				return Answer{}, context.Cause(ctx)
			}
		}
	}
	return Answer{}, err
}

// candidates returns the absolute names that a name may mean, in order.
func (c *config) candidates(name string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var all []string
	for _, domain := range c.search {
		all = append(all, name+"."+domain+".")
	}
	if strings.Count(name, ".") >= c.ndots {
		return slices.Insert(all, 0, name+".")
	}
	return append(all, name+".")
}
