// Package dnsproxy answers the DNS queries that capture brings to the sidecar: names of
// the mesh itself, everything else by asking the pod's own resolvers. It speaks UDP and
// TCP, remembers answers for as long as they say, and tells the truth: a name that has
// no address of the family that was asked for exists, and what can't be found out is a
// failure (SERVFAIL), never a name that does not exist.
//
// What is not here: the rules that bring queries (iptables), Envoy's dns_filter
// (filters/dnsfilter), and the lookups of clusters (proxy/cluster/dns).
package dnsproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
	"golang.org/x/sys/unix"
)

// Options say what a Server answers, and how.
type Options struct {
	// Listen are the addresses for queries, each over UDP and TCP. With port 0, both get
	// the same free one.
	Listen []netip.AddrPort
	// Upstream are the resolvers for what is not in Names, asked in this order; without
	// any, such queries fail (SERVFAIL).
	Upstream []netip.AddrPort
	// Search are the domains that clients may append to a name (resolv.conf).
	Search []string
	// Names are answered here; nil is none.
	Names *Names
	// Mark is the SO_MARK of queries to resolvers, by which capture knows the sidecar's
	// own; 0 is none.
	Mark int
	// Timeout bounds one lookup with all its attempts; 0 is 4.5 s, less than the 5 s
	// after which clients ask again.
	Timeout time.Duration
	// MaxLookups and MaxConns bound the queries under way to resolvers and the TCP
	// connections of clients; CacheSize the answers that are remembered. 0 is 1024, 256
	// and 4096.
	MaxLookups, MaxConns, CacheSize int
	// Stats is the scope of the statistics, Log gets what goes wrong; both may be nil.
	Stats *stats.Scope
	Log   *slog.Logger
}

// Stats are dns.*.
type Stats struct {
	UDP          stats.Counter `stat:"queries_udp" help:"Queries over UDP."`
	TCP          stats.Counter `stat:"queries_tcp" help:"Queries over TCP."`
	Invalid      stats.Counter `stat:"queries_invalid" help:"Messages that are malformed, or no queries."`
	Local        stats.Counter `stat:"answers_local" help:"Queries for names of the mesh, answered here."`
	Hits         stats.Counter `stat:"cache_hits" help:"Queries answered from the cache."`
	Misses       stats.Counter `stat:"cache_misses" help:"Queries that a resolver had to be asked for."`
	Evictions    stats.Counter `stat:"cache_evictions" help:"Answers that gave way to others before their time."`
	Entries      stats.Gauge   `stat:"cache_entries" help:"Answers in the cache."`
	Lookups      stats.Gauge   `stat:"lookups_active" help:"Queries under way to resolvers."`
	Overflow     stats.Counter `stat:"lookups_overflow" help:"Queries refused because too many were under way."`
	Connections  stats.Gauge   `stat:"connections_active" help:"TCP connections of clients."`
	ConnOverflow stats.Counter `stat:"connections_overflow" help:"TCP connections closed because there were too many."`
	Asked        stats.Counter `stat:"upstream_queries" help:"Queries sent to resolvers, with repeated ones."`
	Timeouts     stats.Counter `stat:"upstream_timeouts" help:"Queries that a resolver did not answer in time."`
	Errors       stats.Counter `stat:"upstream_errors" help:"Resolvers that could not be reached, or answered nonsense."`
	Foreign      stats.Counter `stat:"upstream_foreign" help:"Messages at the port of a query that do not answer it: late, or forged."`
	Failures     stats.Counter `stat:"answers_failed" help:"Queries answered with a failure (SERVFAIL) because no resolver answered."`
	Loops        stats.Counter `stat:"loops" help:"Own queries that capture brought back: its rules do not know the sidecar."`
	Names        stats.Gauge   `stat:"names" help:"Names that are answered here."`
	NamesFailed  stats.Counter `stat:"names_failed" help:"Times that the file of names could not be read or was wrong; the names before stay."`
}

const (
	defaultTimeout = 4500 * time.Millisecond
	defaultLookups = 1024
	defaultConns   = 256
	defaultCache   = 4096
	// clientIdle is how long a TCP connection may wait for its next query.
	clientIdle = 10 * time.Second
)

// Server is a listener for DNS that has started.
type Server struct {
	o     Options
	stats *Stats
	log   *slog.Logger
	cache *cache

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	closers []func() error
	addrs   []netip.AddrPort
	lookups chan struct{}
	conns   chan struct{}

	own    sync.Map // netip.AddrPort of our sockets to resolvers
	failed sync.Map // netip.AddrPort of a resolver -> time.Time until which it comes last
}

// Listen opens the addresses and answers queries until Close.
func Listen(o Options) (*Server, error) {
	s := newServer(o)
	for _, a := range o.Listen {
		if slices.Contains(o.Upstream, a) {
			_ = s.Close()
			return nil, fmt.Errorf("dnsproxy: %v is the listener itself and can't be its resolver", a)
		}
		if err := s.listen(a); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("dnsproxy: %w", err)
		}
	}
	return s, nil
}

func newServer(o Options) *Server {
	o.Timeout = orDefault(o.Timeout, defaultTimeout)
	o.MaxLookups = orDefault(o.MaxLookups, defaultLookups)
	o.MaxConns = orDefault(o.MaxConns, defaultConns)
	o.CacheSize = orDefault(o.CacheSize, defaultCache)
	s := &Server{o: o, stats: new(Stats), log: o.Log, lookups: make(chan struct{}, o.MaxLookups), conns: make(chan struct{}, o.MaxConns)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if o.Stats != nil {
		o.Stats.Bind(s.stats)
	}
	s.cache = newCache(o.CacheSize, s.stats)
	if s.o.Names == nil {
		s.o.Names = &Names{}
	}
	s.o.Names.attach(s.stats, s.log)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func orDefault[T int | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

func (s *Server) listen(a netip.AddrPort) error {
	// TCP first: of its ports fewer are free.
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(a))
	if err != nil {
		return err
	}
	s.closers = append(s.closers, l.Close)
	a = netip.AddrPortFrom(a.Addr(), l.Addr().(*net.TCPAddr).AddrPort().Port())
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
	if err != nil {
		return err
	}
	s.closers = append(s.closers, c.Close)
	s.addrs = append(s.addrs, a)
	s.wg.Go(func() { s.serveUDP(c) })
	s.wg.Go(func() { s.serveTCP(l) })
	return nil
}

// Addrs returns the addresses that are listened on, in the order of Options.Listen.
func (s *Server) Addrs() []netip.AddrPort { return slices.Clone(s.addrs) }

// Close ends everything that is under way and returns when no goroutine is left.
func (s *Server) Close() error {
	s.cancel()
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	s.closers = nil
	s.wg.Wait()
	return errors.Join(errs...)
}

// control marks a socket.
func (s *Server) control(_, _ string, rc syscall.RawConn) error {
	if s.o.Mark == 0 {
		return nil
	}
	var err error
	cerr := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, s.o.Mark)
	})
	return errors.Join(cerr, err)
}
