package pod

import (
	"bufio"
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	queryTimeout = 5 * time.Second
	// maxDatagram is the largest DNS message over UDP (EDNS); a longer one is
	// cut, and then malformed.
	maxDatagram = 4096
	nameTTL     = 1
)

// names are the DNS names that a node knows by itself.
type names struct {
	mu sync.RWMutex
	m  map[string][]netip.Addr
}

func newNames() *names { return &names{m: make(map[string][]netip.Addr)} }

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (n *names) set(name string, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.m[canonical(name)] = addrs
}

func (n *names) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.m, canonical(name))
}

// withdraw removes name if it still leads to addrs and nobody else has taken it.
func (n *names) withdraw(name string, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(n.m[canonical(name)], addrs) {
		delete(n.m, canonical(name))
	}
}

func (n *names) get(name string) ([]netip.Addr, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	a, ok := n.m[canonical(name)]
	return a, ok
}

// resolver answers the pods' DNS questions: names of the node itself, the rest
// by passing the datagram on to the host's servers.
type resolver struct {
	names    *names
	upstream []netip.AddrPort
}

// hostResolvers reads the servers of etc's resolv.conf.
func hostResolvers(etc fs.FS) []netip.AddrPort {
	b, err := fs.ReadFile(etc, "resolv.conf")
	if err != nil {
		return nil
	}
	var out []netip.AddrPort
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil {
				out = append(out, netip.AddrPortFrom(a, dnsPort))
			}
		}
	}
	return out
}

func (r *resolver) serve(ctx context.Context, pc net.PacketConn, log *slog.Logger) {
	slots := make(chan struct{}, maxQueries)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		b := make([]byte, maxDatagram)
		size, from, err := pc.ReadFrom(b)
		if err != nil {
			if ctx.Err() == nil {
				log.Error("pod: DNS stopped", "error", err)
			}
			return
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if answer := r.answer(ctx, b[:size]); answer != nil {
				_, _ = pc.WriteTo(answer, from)
			}
		})
	}
}

// answer returns the answer to a query, nil for none.
func (r *resolver) answer(ctx context.Context, query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	if addrs, ok := r.names.get(q.Name.String()); ok {
		return local(h, q, addrs)
	}
	for _, server := range r.upstream {
		if a := exchange(ctx, server, query); a != nil {
			return a
		}
	}
	code := dnsmessage.RCodeServerFailure
	if len(r.upstream) == 0 {
		code = dnsmessage.RCodeNameError
	}
	return build(h, q, code, nil)
}

func local(h dnsmessage.Header, q dnsmessage.Question, addrs []netip.Addr) []byte {
	return build(h, q, dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder) error {
		rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: nameTTL}
		for _, a := range addrs {
			var err error
			switch {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				err = b.AResource(rh, dnsmessage.AResource{A: a.As4()})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				err = b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: a.As16()})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// build makes an answer. It returns nil if that does not succeed, which leaves
// the question unanswered.
func build(h dnsmessage.Header, q dnsmessage.Question, code dnsmessage.RCode, fill func(*dnsmessage.Builder) error) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired,
		RecursionAvailable: true, Authoritative: code == dnsmessage.RCodeSuccess, RCode: code,
	})
	b.EnableCompression()
	if b.StartQuestions() != nil || b.Question(q) != nil || b.StartAnswers() != nil {
		return nil
	}
	if fill != nil && fill(&b) != nil {
		return nil
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// exchange asks one server and returns the answer with the query's id.
func exchange(ctx context.Context, server netip.AddrPort, query []byte) []byte {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", server.String())
	if err != nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { c.Close() }) //nolint:errcheck // ends the read below
	defer stop()
	defer c.Close() //nolint:errcheck // nothing is pending
	if _, err := c.Write(query); err != nil {
		return nil
	}
	b := make([]byte, maxDatagram)
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil
		}
		if n >= 2 && bytes.Equal(b[:2], query[:2]) {
			return b[:n]
		}
	}
}
