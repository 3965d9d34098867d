package wasmkit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Live is a filter that is being written, with a proxy around it.
type Live struct {
	Dir           string
	Proxy         []string // command line of the proxy, without the configuration
	Listen, Admin string   // HOST:PORT
	Upstream      string   // HOST:PORT; "": a server that tells what it got
	Configuration string   // of the plugin
	Out, Log      io.Writer

	upstream, run string // as it is; the folder with what the proxy reads
	builds        int
}

// glance is how often the folder is looked at.
const glance = 300 * time.Millisecond

// Run builds the filter and serves it until ctx ends, and builds and loads it again whenever
// a file of it has been saved. What cannot be built leaves the filter as it was.
func (l *Live) Run(ctx context.Context) error {
	var err error
	if l.run, err = os.MkdirTemp("", "mecha-wasm-"); err != nil {
		return err
	}
	defer os.RemoveAll(l.run)
	end, err := l.answer(ctx)
	if err != nil {
		return err
	}
	defer end()
	seen := sourcesOf(l.Dir)
	if err := l.load(ctx); err != nil {
		return err
	}
	bootstrap, err := l.bootstrap()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, l.Proxy[0], append(l.Proxy[1:], "-c", bootstrap)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = l.Log, l.Log
	if err := cmd.Start(); err != nil {
		cancel()
		return err
	}
	done := make(chan error, 1)
	go func() {
		done <- cmd.Wait()
		close(done)
	}()
	defer func() {
		cancel()
		<-done // it is told to end, and killed if it does not
	}()
	fmt.Fprintf(l.Out, "http://%s serves the filter, http://%s is the admin interface; saved files are loaded. Ctrl-C ends it.\n", l.Listen, l.Admin)
	t := time.NewTicker(glance)
	defer t.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the proxy has ended: %w", cmp.Or(err, errors.New("nobody has told it to")))
		case <-ctx.Done():
			return nil
		case <-t.C:
			now := sourcesOf(l.Dir)
			if now == seen || ctx.Err() != nil {
				continue
			}
			seen = now
			if err := l.load(ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintf(l.Out, "the filter stays as it was: %v\n", err)
			}
		}
	}
}

// load builds the filter and hands it to the proxy, under a name of its own each time.
func (l *Live) load(ctx context.Context) error {
	l.builds++
	name := fmt.Sprintf("filter-%d.wasm", l.builds)
	if _, err := Build(ctx, l.Dir, filepath.Join(l.run, name), l.Log); err != nil {
		return err
	}
	if err := l.write("listeners.json", l.listeners(filepath.Join(l.run, name))); err != nil {
		return err
	}
	fmt.Fprintf(l.Out, "build %d is handed to the proxy\n", l.builds)
	return nil
}

type object = map[string]any

func typed(name string, fields object) object {
	fields["@type"] = "type.googleapis.com/" + name
	return fields
}

func socket(address string) object {
	host, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port) // the proxy says what is wrong with it
	return object{"socket_address": object{"address": host, "port_value": n}}
}

// write replaces a file of the proxy's in one go.
func (l *Live) write(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	next := filepath.Join(l.run, "."+name)
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, filepath.Join(l.run, name))
}

// listeners is a DiscoveryResponse with the listener.
func (l *Live) listeners(module string) object {
	about := About(module)
	filter := about.Base("live")
	config, _ := filter["config"].(object)
	config["name"] = l.name()
	if l.Configuration != "" {
		config["configuration"] = typed("google.protobuf.StringValue", object{"value": l.Configuration})
	}
	manager := typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", object{
		"stat_prefix": "live",
		"route_config": object{"name": "live", "virtual_hosts": []any{object{"name": "all", "domains": []any{"*"}, "routes": []any{
			object{"match": object{"prefix": "/"}, "route": object{"cluster": "upstream"}},
		}}}},
		"http_filters": []any{
			object{"name": about.Name, "typed_config": typed(about.Type, filter)},
			object{"name": "envoy.filters.http.router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", object{})},
		},
	})
	return object{"version_info": strconv.Itoa(l.builds), "resources": []any{typed("envoy.config.listener.v3.Listener", object{
		"name": "live", "address": socket(l.Listen),
		"filter_chains": []any{object{"filters": []any{object{"name": "http", "typed_config": manager}}}},
	})}}
}

func (l *Live) name() string {
	if dir, err := filepath.Abs(l.Dir); err == nil {
		return filepath.Base(dir)
	}
	return "filter"
}

// bootstrap writes the proxy's configuration and returns where it is.
func (l *Live) bootstrap() (string, error) {
	lds := filepath.Join(l.run, "listeners.json")
	err := l.write("bootstrap.json", object{
		"node":  object{"id": "live", "cluster": "live"},
		"admin": object{"address": socket(l.Admin)},
		"dynamic_resources": object{"lds_config": object{
			"resource_api_version": "V3",
			"path_config_source":   object{"path": lds, "watched_directory": object{"path": l.run}},
		}},
		"static_resources": object{"clusters": []any{object{
			"name": "upstream", "type": "STRICT_DNS",
			"load_assignment": object{"cluster_name": "upstream", "endpoints": []any{object{"lb_endpoints": []any{
				object{"endpoint": object{"address": socket(l.upstream)}},
			}}}},
		}}},
	})
	return filepath.Join(l.run, "bootstrap.json"), err
}

// answer starts the server that answers where no upstream is given.
func (l *Live) answer(ctx context.Context) (end func(), err error) {
	if l.upstream = l.Upstream; l.upstream != "" {
		return func() {}, nil
	}
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.upstream = socket.Addr().String()
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := httputil.DumpRequest(r, true)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(text) // the client may have gone
	})}
	go func() { _ = s.Serve(socket) }() // until Close
	return func() { _ = s.Close() }, nil
}

// sourcesOf is a value that changes when a file of the folder does.
func sourcesOf(dir string) uint64 {
	h := fnv.New64a()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what is not there does not change
		if err != nil {
			return nil
		}
		name := d.Name()
		if d.IsDir() {
			if path != dir && (strings.HasPrefix(name, ".") || name == "build" || name == "target" || name == "node_modules" || name == "dialogues") {
				return filepath.SkipDir
			}
			return nil
		}
		if info, err := d.Info(); err == nil && name != "Cargo.lock" && !strings.HasPrefix(name, ".") {
			fmt.Fprintf(h, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return h.Sum64()
}
