package xds

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/source"
)

// ref is a reference from one resource to another: from a cluster to its endpoints, from
// a listener to a route table. The zero value refers to nothing.
type ref struct {
	name          string
	path, watched string // of the file that it comes from
	api           string // the serialised ApiConfigSource; with path, "" is ADS
}

func refTo(name string, from filter.ConfigSource) ref {
	return ref{name: name, path: from.Path, watched: from.Watched, api: from.API}
}

// references are the resources of one type that others refer to, with who does.
type references struct {
	typeURL string
	users   map[ref][]string
	names   map[string]int // how many keys of users have that name
	files   map[ref]context.CancelFunc
	watches map[ref]*watch
}

func newReferences(typeURL string) *references {
	return &references{typeURL: typeURL, users: map[ref][]string{}, names: map[string]int{}, files: map[ref]context.CancelFunc{}, watches: map[ref]*watch{}}
}

// use notes that user refers to r, and subscribes to r if it is the first who does. The
// manager's lock is held.
func (m *Manager) use(l *references, r ref, user string, timeout time.Duration, statPrefix string) {
	l.users[r] = append(l.users[r], user)
	if len(l.users[r]) > 1 {
		return
	}
	l.names[r.name]++
	if l.typeURL != ads.ScopedRouteType { // whose statistics are those of who uses them
		if w := newWatch(m.stats, l.typeURL, r, statPrefix); w != nil {
			l.watches[r] = w
		}
	}
	if r.path == "" {
		if s := m.subscriber(l.typeURL, r.api); s != nil {
			s.Subscribe(l.typeURL, timeout, r.name)
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.files[r] = cancel
	begin := func() {
		if err := m.follow(ctx, l.typeURL, r); err != nil {
			m.log.Error("a file cannot be followed", "path", r.path, "error", err)
			m.handlerFor(l.typeURL, r).FetchTimedOut(l.typeURL, r.name)
		}
	}
	if !m.running {
		m.later = append(m.later, begin)
		return
	}
	go begin()
}

// drop is the end of user's interest in r; the last one ends the subscription.
func (m *Manager) drop(l *references, r ref, user string) {
	rest := slices.DeleteFunc(l.users[r], func(u string) bool { return u == user })
	if len(rest) > 0 {
		l.users[r] = rest
		return
	}
	delete(l.users, r)
	if l.names[r.name]--; l.names[r.name] == 0 {
		delete(l.names, r.name)
	}
	if w := l.watches[r]; w != nil {
		w.release()
		delete(l.watches, r)
	}
	m.inUse.forget(l.typeURL, r.name)
	if l == m.routes {
		m.dropHosts(r.name)
	}
	if cancel, ok := l.files[r]; ok {
		cancel()
		delete(l.files, r)
	} else if s := m.subscriber(l.typeURL, r.api); s != nil {
		s.Unsubscribe(l.typeURL, r.name)
	}
}

// wanted reports whether anything refers to a resource. One that was on its way when its
// last user went must leave no trace: whoever refers to that name later waits for the
// version of then. The lock is held.
func (m *Manager) wanted(typeURL, name string) bool {
	switch typeURL {
	case ads.EndpointType:
		return m.services.names[name] > 0
	case ads.RouteType:
		return m.routes.names[name] > 0
	case ads.ExtensionConfigType:
		return m.configs.names[name] > 0
	case ads.VirtualHostType:
		table, _ := cutHost(name)
		return m.hosts[table] != nil
	}
	return true
}

// follow applies one resource of a file, whenever it changes, until ctx ends.
func (m *Manager) follow(ctx context.Context, typeURL string, r ref) error {
	names := []string{r.name}
	if r.name == ads.Wildcard {
		names = nil
	}
	f, err := source.Open(source.Config{
		Path: r.path, WatchedDirectory: r.watched, TypeURL: typeURL, Names: names,
		Handler: m.handlerFor(typeURL, r), Logger: m.log,
	})
	if err != nil {
		return fmt.Errorf("%s %q: %w", ads.ShortType(typeURL), r.name, err)
	}
	return f.Run(ctx)
}

// run starts what had to wait until the process is complete.
func (m *Manager) run() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = true
	m.streams.run()
	for _, f := range m.later {
		go f()
	}
	m.later = nil
}

// stop ends what follows files.
func (m *Manager) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = false
	if t := m.lastGood.timer; t != nil {
		t.Stop()
	}
	for _, l := range m.references() {
		for _, cancel := range l.files {
			cancel()
		}
	}
	m.streams.stop()
}
