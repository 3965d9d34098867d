package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/cmd/mecha/pod"
	"github.com/mecha-mesh/mecha/proxy/dnsproxy"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// resolvConf names the resolvers of this machine, or pod.
const resolvConf = "/etc/resolv.conf"

// dnsOptions are the flags --dns-*. Without an address to listen on there is no DNS.
type dnsOptions struct {
	Listen, Upstream []netip.AddrPort
	Names            map[string][]netip.Addr
	File             string
}

func setDNSListen(o *Options, v string) error {
	for text := range strings.SplitSeq(v, ",") {
		a, err := netip.ParseAddrPort(text)
		if err != nil || a.Port() == 0 {
			return fmt.Errorf("%q: expected an IP address and a port, such as 127.0.0.1:15053", text)
		}
		o.DNS.Listen = append(o.DNS.Listen, a)
	}
	return nil
}

func setDNSUpstream(o *Options, v string) error {
	for text := range strings.SplitSeq(v, ",") {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			ip, ipErr := netip.ParseAddr(text)
			if ipErr != nil {
				return fmt.Errorf("%q: expected an IP address, such as 10.0.0.10 or 10.0.0.10:53", text)
			}
			a = netip.AddrPortFrom(ip, 53)
		}
		o.DNS.Upstream = append(o.DNS.Upstream, a)
	}
	return nil
}

func addDNSName(o *Options, v string) error {
	name, addrs, err := dnsproxy.ParseName(v)
	if err != nil {
		return err
	}
	if o.DNS.Names == nil {
		o.DNS.Names = make(map[string][]netip.Addr)
	}
	o.DNS.Names[name] = append(o.DNS.Names[name], addrs...)
	return nil
}

// check finds what is wrong without opening a socket.
func (d dnsOptions) check() (*dnsproxy.Names, error) {
	if len(d.Listen) == 0 {
		if len(d.Upstream)+len(d.Names) > 0 || d.File != "" {
			return nil, errors.New("--dns-upstream, --dns-name and --dns-names do nothing without --dns-listen")
		}
		return nil, nil
	}
	names, err := dnsproxy.NewNames(d.Names, d.File)
	if err != nil {
		return nil, fmt.Errorf("--dns-names: %w", err)
	}
	return names, nil
}

// listenDNS answers DNS queries until the server that it returns is closed; nil if there
// are no flags for it.
func listenDNS(d dnsOptions, st *stats.Store, log *slog.Logger) (*dnsproxy.Server, error) {
	names, err := d.check()
	if names == nil || err != nil {
		return nil, err
	}
	servers, search, err := dnsproxy.ReadResolvConf(resolvConf)
	if err != nil && len(d.Upstream) == 0 {
		return nil, fmt.Errorf("--dns-listen: no resolvers for other names; give them with --dns-upstream: %w", err)
	}
	if len(d.Upstream) > 0 {
		servers = d.Upstream
	}
	mark := uint64(0)
	if text := os.Getenv(pod.MarkEnv); text != "" {
		if mark, err = strconv.ParseUint(text, 10, 32); err != nil {
			return nil, fmt.Errorf("the environment variable %s=%q is not a mark: it must be a number from 0 to 4294967295", pod.MarkEnv, text)
		}
	}
	return dnsproxy.Listen(dnsproxy.Options{
		Listen: d.Listen, Upstream: servers, Search: search, Names: names, Mark: int(mark), Stats: st.Scope("dns"), Log: log,
	})
}
