// Package admin is the server's own HTTP interface: Envoy's admin endpoints under
// Envoy's paths, with Envoy's texts and JSON shapes. It shows what a Source knows and
// passes on what an operator wants; it knows nothing of listeners and clusters
// itself, and nothing of protobuf: /config_dump comes ready from the Source.
package admin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/applog"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// Config is what a Server is made of.
type Config struct {
	Stats *stats.Store
	// OnRead is called each time before somebody is told statistics; nil does nothing.
	OnRead  func()
	Source  Source
	Journal *why.Journal        // what /why tells of; nil: nothing
	Levels  *applog.Log         // whose levels /logging shows and sets; nil has none
	Access  []*accesslog.Logger // admin.access_log; may be empty
	Log     *slog.Logger        // errors of the HTTP server; nil discards them
	Extra   []Endpoint          // further endpoints, which may replace others

	ProfilePath  string // where /cpuprofiler writes (admin.profile_path)
	MutexTracing bool   // --enable-mutex-tracing
}

// Endpoint is one path.
type Endpoint struct {
	Path   string // matched whole; with a trailing "*", as a prefix
	Help   string // one line for /help and the index page
	Post   bool   // changes something: any other method is refused with 405
	Params []ParamHelp
	Serve  http.HandlerFunc // gets headers set for text/plain, which it may change
}

// ParamHelp documents a parameter of an endpoint.
type ParamHelp struct{ Name, Help string }

// Server serves the endpoints. It is safe for concurrent use.
type Server struct {
	cfg       Config
	endpoints []Endpoint // by path
	http      http.Server
	counters  counters
	profile   profiler
	lookups   atomic.Bool // /stats/recentlookups was enabled
}

// New returns a server that is not listening yet.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	if cfg.Stats != nil {
		s.counters.bind(cfg.Stats)
	}
	s.profile.path = cfg.ProfilePath
	builtin := slices.DeleteFunc(append(s.builtin(), s.healthEndpoints()...), func(e Endpoint) bool {
		return slices.ContainsFunc(cfg.Extra, func(x Endpoint) bool { return x.Path == e.Path })
	})
	s.endpoints = slices.Concat(builtin, cfg.Extra)
	slices.SortFunc(s.endpoints, func(a, b Endpoint) int { return cmp.Compare(a.Path, b.Path) })
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // for gRPC
	s.http = http.Server{
		Protocols:         protocols,
		Handler:           s.logged(http.HandlerFunc(s.route)),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnState:         s.counters.connState,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	return s
}

type connKey struct{}

// Listen opens the socket of admin.address: a TCP address, or a unix socket, whose
// stale file is removed. A mode other than 0 is that of the new file.
func Listen(addr meta.Addr, mode fs.FileMode) (net.Listener, error) {
	network := "tcp"
	if addr.IsUnix() {
		network = "unix"
		if err := removeStale(addr.Path); err != nil {
			return nil, fmt.Errorf("admin: address: %w", err)
		}
	}
	l, err := net.Listen(network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("admin: address: %w", err)
	}
	if addr.IsUnix() && mode != 0 && !strings.HasPrefix(addr.Path, "@") {
		if err := os.Chmod(addr.Path, mode); err != nil {
			l.Close()
			return nil, fmt.Errorf("admin: address: %w", err)
		}
	}
	return l, nil
}

// removeStale removes a socket on which nobody listens any more.
func removeStale(path string) error {
	if strings.HasPrefix(path, "@") {
		return nil
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("%s is in use by another process", path)
	}
	return os.Remove(path)
}

// Serve answers on l until Close or Shutdown, then returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting and waits for answers under way until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close stops at once.
func (s *Server) Close() error { return s.http.Close() }

// Handler returns what Serve serves, for tests and for other sockets.
func (s *Server) Handler() http.Handler { return s.http.Handler }

const (
	plain = "text/plain; charset=UTF-8"
	page  = "text/html; charset=UTF-8"
	asked = "application/json"
)

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Content-Type"] = []string{plain}
	h["Cache-Control"] = []string{"no-cache, max-age=0"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	r.URL.Path = mergeSlashes(r.URL.Path) // as Envoy's admin listener does
	e := s.find(r.URL.Path)
	if e == nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "invalid path. ")
		s.writeHelp(w)
		return
	}
	if why := refuse(r, e.Post); why != "" {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintln(w, why)
		return
	}
	if e.Post && r.Method != http.MethodPost {
		h["Allow"] = []string{http.MethodPost}
		w.WriteHeader(http.StatusMethodNotAllowed)
		fmt.Fprintf(w, "Method %s not allowed, POST required.\n", r.Method)
		return
	}
	e.Serve(w, r)
}

func mergeSlashes(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

func (s *Server) find(path string) *Endpoint {
	for i := range s.endpoints {
		e := &s.endpoints[i]
		if prefix, ok := strings.CutSuffix(e.Path, "*"); ok {
			if strings.HasPrefix(path, prefix) {
				return e
			}
		} else if path == e.Path {
			return e
		}
	}
	return nil
}

func (s *Server) writeHelp(w http.ResponseWriter) {
	var out bytes.Buffer
	out.WriteString("admin commands are:\n")
	for _, e := range s.endpoints {
		post := ""
		if e.Post {
			post = " (POST)"
		}
		fmt.Fprintf(&out, "  %s%s: %s\n", e.Path, post, e.Help)
		for _, p := range e.Params {
			fmt.Fprintf(&out, "      %s: %s\n", p.Name, p.Help)
		}
	}
	_, _ = w.Write(out.Bytes()) // the one who asked has gone
}

// fail answers with an error.
func fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", plain)
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}
