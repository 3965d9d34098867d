package dialogue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/filters/hcm"
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// Memory is the HTTP engine alone: a connection manager with the filters under test and
// a terminal filter that stands in for the router, over pairs of connected sockets.
// There are no listeners, clusters, addresses or retries.
type Memory struct {
	stats  *stats.Store
	files  *accesslog.Files
	chains map[string]func() filter.Network // by name of the listener
	ids    atomic.Uint64
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	active map[string]*atomic.Int64 // requests under way, by cluster
}

// requests counts those of a cluster that are under way.
func (m *Memory) requests(cluster string) *atomic.Int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.active[cluster]
	if n == nil {
		n = new(atomic.Int64)
		m.active[cluster] = n
	}
	return n
}

// NewMemory builds the connection managers of a bootstrap. dial gives the proxy's end of
// a connection to a server of the cluster; what it is asked for first is the listener.
func NewMemory(config []byte, log *slog.Logger, dial func(listener, cluster string) (net.Conn, error), specs ...filter.Descriptor) (*Memory, error) {
	b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: string(config)})
	if err != nil {
		return nil, err
	}
	m := &Memory{stats: stats.NewStore(), chains: map[string]func() filter.Network{}, active: map[string]*atomic.Int64{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.files = accesslog.NewFiles(accesslog.FileOptions{FlushInterval: 5 * time.Millisecond}, nil)
	settings, _, err := translate.Process(b)
	if err != nil {
		return nil, err
	}
	values := runtime.New(settings.Runtime, m.stats)
	trailers, err := passTrailers(b.GetStaticResources().GetClusters())
	if err != nil {
		return nil, err
	}
	secrets, err := readSecrets(b.GetStaticResources().GetSecrets())
	if err != nil {
		return nil, err
	}
	for _, l := range b.GetStaticResources().GetListeners() {
		to := func(cluster string) (net.Conn, error) { return dial(l.Name, cluster) }
		registry, err := filter.NewRegistry(append([]filter.Descriptor{hcm.Spec, standIn(to, trailers, m.requests)}, specs...)...)
		if err != nil {
			return nil, err
		}
		any, err := fromproto.Any(l.GetFilterChains()[0].GetFilters()[0].GetTypedConfig())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		p := &filter.Parser{Registry: registry, Routes: fromproto.InlineRoutes, Runtime: values, Secrets: secrets}
		factory, err := p.Network(any)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		env := filter.Env{
			Name: l.Name, Stats: m.stats, Parent: m.stats.Scope("listener"), Logs: m.files, Log: log,
			Node: filter.Node{ID: b.GetNode().GetId(), Cluster: b.GetNode().GetCluster()}, Runtime: values,
		}
		if m.chains[l.Name], err = factory(env); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	return m, nil
}

// passTrailers finds the clusters with enable_trailers.
func passTrailers(clusters []*clusterv3.Cluster) (map[string]bool, error) {
	on := map[string]bool{}
	for _, c := range clusters {
		raw, err := proto.Marshal(c)
		if err != nil {
			return nil, err
		}
		spec, _, err := translate.Cluster(raw, nil, nil)
		if err != nil {
			return nil, err
		}
		on[c.Name] = spec.HTTP.EnableTrailers
	}
	return on, nil
}

// Dial connects a client to a listener.
func (m *Memory) Dial(listener string) (net.Conn, error) {
	chain := m.chains[listener]
	if chain == nil {
		return nil, fmt.Errorf("there is no listener %s", listener)
	}
	mine, theirs, err := Pair()
	if err != nil {
		return nil, err
	}
	remote := meta.AddrOf(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000})
	local := meta.AddrOf(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 10001})
	e := &memoryConn{m: m, sock: netio.NewConn(theirs)}
	c := &filter.Conn{Engine: e, Meta: &meta.Conn{
		ID: m.ids.Add(1), Start: time.Now(), Local: local, Remote: remote, Direct: remote, Listener: listener,
	}}
	m.wg.Go(func() {
		_ = chain().(filter.ConnTerminal).Serve(c) // how it ended is what the client sees
		_ = e.sock.Close()
	})
	return mine, nil
}

// Stat is the value of a counter or gauge, "" if there is none.
func (m *Memory) Stat(name string) string { return statOf(m.stats, name) }

// Close cuts what is still connected.
func (m *Memory) Close() {
	m.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = m.files.Close(ctx) // the logs are in a folder that the test removes
}

// Wait waits for the end of all connections, whose clients must have gone.
func (m *Memory) Wait() { m.wg.Wait() }

// Pair returns two connected sockets.
func Pair() (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if a, err = fileConn(fds[0]); err != nil {
		syscall.Close(fds[1])
		return nil, nil, err
	}
	if b, err = fileConn(fds[1]); err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "pair")
	defer f.Close()
	return net.FileConn(f)
}

// memoryConn is the engine of a connection without a listener.
type memoryConn struct {
	m    *Memory
	sock *netio.Conn
}

var errNoNetwork = errors.New("dialogue: the engine in memory serves HTTP only")

func (c *memoryConn) Context() context.Context               { return c.m.ctx }
func (c *memoryConn) Socket() *netio.Conn                    { return c.sock }
func (c *memoryConn) Plain() bool                            { return true }
func (c *memoryConn) Recv(*buffer.Buf) (end bool, err error) { return false, errNoNetwork }
func (c *memoryConn) Send(*buffer.Buf, bool) error           { return errNoNetwork }
func (c *memoryConn) Relay(filter.Peer, filter.RelayOptions) (filter.RelayResult, error) {
	return filter.RelayResult{}, errNoNetwork
}
func (c *memoryConn) Draining() <-chan struct{}                           { return nil }
func (c *memoryConn) OnDrain(func()) (stop func())                        { return func() {} }
func (c *memoryConn) Ending() bool                                        { return false }
func (c *memoryConn) Park(time.Time, func(readable bool) error) (ok bool) { return false }

var _ filter.ConnEngine = (*memoryConn)(nil)

// memory is Memory as a proxy that cases are played against.
type memory struct {
	*Memory
}

func startMemory(sites []*site, config []byte, log *slog.Logger, specs []filter.Descriptor) (running, error) {
	bySite := map[string]*site{}
	for _, s := range sites {
		bySite[s.c.Name] = s
	}
	m, err := NewMemory(config, log, func(listener, cluster string) (net.Conn, error) {
		return bySite[listener].connect(cluster)
	}, specs...)
	if err != nil {
		return nil, err
	}
	for _, s := range sites {
		s.dial = func() (net.Conn, error) { return m.Dial(s.c.Name) }
	}
	return &memory{m}, nil
}

// connect gives the server of a cluster a connection without a network.
func (s *site) connect(cluster string) (net.Conn, error) {
	for name, u := range s.servers {
		if s.cluster(name) != cluster {
			continue
		}
		mine, theirs, err := Pair()
		if err != nil {
			return nil, err
		}
		u.queue <- theirs
		return mine, nil
	}
	return nil, syscall.ECONNREFUSED
}

func (m *memory) stat(name string) string   { return m.Stat(name) }
func (m *memory) active(cluster string) int { return int(m.requests(cluster).Load()) }
func (m *memory) post(path string) error {
	return fmt.Errorf("there is no admin endpoint for %s", path)
}
func (m *memory) close() { m.Close() }
