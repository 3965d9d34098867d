package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	extensionservice "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	runtimeservice "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	sotwv3 "github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/source"
)

// Options say what to serve and where. Dir and Listen are required.
type Options struct {
	// Dir is the folder of resources.
	Dir string
	// Listen are addresses: "host:port" (port 0 takes a free one), "unix:PATH", "unix:@name".
	Listen []string
	// SkipBroken starts without the files that are broken at the start. Otherwise
	// they stop the start: proxies would lose what these files last held.
	SkipBroken bool
	// Debounce is how long the folder must be quiet before it is read again; 0 is 200 ms.
	Debounce time.Duration
	// AckTimeout is the longest wait for a proxy to take new clusters before it is
	// sent routes to them; 0 is 5 s.
	AckTimeout time.Duration
	// Grace is how long a removed cluster stays after the routes to it went; 0 is 2 s.
	Grace time.Duration
	// Identity makes the server hand out identities of workloads; nil hands out none.
	Identity *Identity
	// Logger must not be nil.
	Logger *slog.Logger
}

// Server serves one folder.
type Server struct {
	o         Options
	log       *slog.Logger
	folder    *Folder
	watcher   *source.Watcher
	listeners []net.Listener
	identity  *identities // nil without
	reload    chan struct{}

	last     State
	reported map[string]bool // problems and warnings of the last load
}

// New reads the folder and opens the listeners; it serves nothing before Run. The
// error joins everything that is wrong with the folder.
func New(o Options) (*Server, error) {
	if len(o.Listen) == 0 {
		return nil, errors.New("control: no address to listen on")
	}
	for d, def := range map[*time.Duration]time.Duration{&o.Debounce: 200 * time.Millisecond, &o.AckTimeout: 5 * time.Second, &o.Grace: 2 * time.Second} {
		if *d <= 0 {
			*d = def
		}
	}
	w, err := source.NewWatcher()
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, log: o.Logger, folder: NewFolder(o.Dir), watcher: w, reload: make(chan struct{}, 1)}
	if err := s.start(); err != nil {
		s.watcher.Close()
		for _, l := range s.listeners {
			l.Close()
		}
		return nil, err
	}
	return s, nil
}

func (s *Server) start() error {
	// Watch before reading, so that a change in between is seen.
	if err := s.watcher.Set(s.folder.Dirs()...); err != nil {
		return err
	}
	state, err := s.folder.Load()
	if err != nil {
		return err
	}
	if len(state.Problems) > 0 && !s.o.SkipBroken {
		return fmt.Errorf("the folder %s has mistakes:\n%w", s.o.Dir, errors.Join(state.Problems...))
	}
	s.last = State{}
	s.report(state)
	if err := s.startIdentity(); err != nil {
		return err
	}
	for _, address := range s.o.Listen {
		l, err := listen(address)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// startIdentity opens the authority and the sockets of single workloads.
func (s *Server) startIdentity() (err error) {
	o := s.o.Identity
	if o == nil {
		return nil
	}
	if err := o.checkSockets(); err != nil {
		return err
	}
	if s.identity, err = newIdentities(o, s.log); err != nil {
		return err
	}
	for address, id := range o.Sockets {
		l, err := listenFor(address)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, workloadListener{l, id})
	}
	return nil
}

// listenFor opens a socket that its owner alone may connect to.
func listenFor(address string) (net.Listener, error) {
	_, path := ads.SplitAddress(address)
	if strings.HasPrefix(path, "@") {
		return nil, fmt.Errorf("listen on %s: an abstract socket is for everybody", address)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	l, err := listen(address)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close() //nolint:errcheck // nothing came over it
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// Addresses are where the server listens, as ads.Config takes them.
func (s *Server) Addresses() []string {
	var out []string
	for _, l := range s.listeners {
		a := l.Addr().String()
		if l.Addr().Network() == "unix" {
			a = "unix:" + a
		}
		out = append(out, a)
	}
	return out
}

// Reload reads the folder again now, whether or not a change was seen.
func (s *Server) Reload() {
	select {
	case s.reload <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends, then closes every stream and returns nil. It may be
// called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.watcher.Close()
	h := newHub(ctx, s.log, s.o.AckTimeout, s.o.Grace)
	if err := h.publish(s.last.Sets); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	g := newGRPC(ctx, h, s.identity)
	var wg sync.WaitGroup
	if s.identity != nil {
		wg.Go(func() { s.identity.watchRoots(ctx) })
	}
	failed := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		wg.Go(func() { failed <- g.Serve(l) })
	}
	wg.Go(func() { s.watch(ctx) })
	s.log.Info("serving", "folder", s.o.Dir, "listen", strings.Join(s.Addresses(), " "), "files", s.last.Files, "resources", len(s.last.Sets[""]))

	var err error
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		case <-s.reload:
			s.load(h)
		}
	}
	cancel() // ends the streams: go-control-plane's servers watch it
	g.GracefulStop()
	wg.Wait()
	h.close()
	s.log.Info("stopped")
	return err
}

func (s *Server) watch(ctx context.Context) {
	for s.watcher.Wait(ctx, s.o.Debounce) == nil {
		s.Reload()
	}
}

func (s *Server) load(h *hub) {
	state, err := s.folder.Load()
	if err != nil {
		s.log.Error("folder not read; what was read before stays served", "error", err)
		return
	}
	if err := s.watcher.Set(s.folder.Dirs()...); err != nil {
		s.log.Warn("changes may go unseen; send SIGHUP after one", "error", err)
	}
	s.report(state)
	if err := h.publish(state.Sets); err != nil {
		s.log.Error("not published; what was published before stays served", "error", err)
	}
	if s.identity != nil {
		s.identity.tell()
	}
}

// report logs what a load changed, and the problems and warnings that are new.
func (s *Server) report(state State) {
	old := s.last
	reported := map[string]bool{}
	consequence := "mistake in the folder; what was good before stays served"
	if old.Sets == nil {
		consequence = "mistake in the folder; started without it"
	}
	for _, err := range state.Problems {
		reported[err.Error()] = true
		if !s.reported[err.Error()] {
			s.log.Error(consequence, "error", err)
		}
	}
	for _, w := range state.Warnings {
		reported[w] = true
		if !s.reported[w] {
			s.log.Warn("check", "warning", w)
		}
	}
	for _, rel := range old.Stale {
		if !slices.Contains(state.Stale, rel) {
			s.log.Info("file is good again", "file", rel)
		}
	}
	if old.Sets != nil {
		for _, group := range sortedGroups(old.Sets, state.Sets) {
			for _, line := range changes(old.Sets[group], state.Sets[group]) {
				if group != "" && slices.Contains(changes(old.Sets[""], state.Sets[""]), line) {
					continue // said for the folder already
				}
				s.log.Info(line, groupAttr(group)...)
			}
		}
	}
	s.last, s.reported = state, reported
}

func groupAttr(group string) []any {
	if group == "" {
		return nil
	}
	return []any{"node", group}
}

func sortedGroups(a, b map[string]Set) []string {
	var out []string
	for _, m := range []map[string]Set{a, b} {
		for g := range m {
			if !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	slices.Sort(out)
	return out
}

// newGRPC registers every discovery service: ADS, and the ones for a single type.
func newGRPC(ctx context.Context, h *hub, ids *identities) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.MaxRecvMsgSize(64<<20),
	)
	xds := serverv3.NewServer(ctx, answering{h.cache, h}, h.callbacks(), sotwv3.WithOrderedADS())
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, xds)
	clusterservice.RegisterClusterDiscoveryServiceServer(g, xds)
	endpointservice.RegisterEndpointDiscoveryServiceServer(g, xds)
	listenerservice.RegisterListenerDiscoveryServiceServer(g, xds)
	routeservice.RegisterRouteDiscoveryServiceServer(g, xds)
	routeservice.RegisterScopedRoutesDiscoveryServiceServer(g, xds)
	routeservice.RegisterVirtualHostDiscoveryServiceServer(g, xds)
	if ids != nil {
		ids.hub, ids.others = h, xds
		secretservice.RegisterSecretDiscoveryServiceServer(g, ids)
	} else {
		secretservice.RegisterSecretDiscoveryServiceServer(g, xds)
	}
	runtimeservice.RegisterRuntimeDiscoveryServiceServer(g, xds)
	extensionservice.RegisterExtensionConfigDiscoveryServiceServer(g, xds)
	return g
}

// listen opens one address. A socket file that nobody answers on is from a server
// that was killed, and is replaced.
func listen(address string) (net.Listener, error) {
	network, addr := ads.SplitAddress(address)
	if network == "unix" && !strings.HasPrefix(addr, "@") {
		if st, err := os.Lstat(addr); err == nil && st.Mode().Type() == os.ModeSocket {
			c, err := net.Dial(network, addr)
			if err == nil {
				c.Close()
				return nil, fmt.Errorf("listen on %s: another process serves there", address)
			}
			if err := os.Remove(addr); err != nil {
				return nil, fmt.Errorf("listen on %s: %w", address, err)
			}
		}
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}
