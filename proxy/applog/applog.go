// Package applog writes the proxy's own log, the one people read: Envoy's line
// format and levels behind log/slog, a level for each component that can be
// changed while the proxy runs, and files that can be reopened.
//
// Access logs are not here (they record traffic, and belong to the listener),
// and neither is the admin endpoint that changes levels.
package applog

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// ComponentKey is the attribute that names a component:
// logger.With("component", "http") logs at that component's level.
const ComponentKey = "component"

// defaultComponent owns records that name no component, as Envoy's main does.
const defaultComponent = "main"

// maxComponents bounds the components that SetComponentLevel and attributes may
// create; further ones share the default's level.
const maxComponents = 256

// A Log is the destination all components share. All methods may be called at
// any time from any goroutine.
type Log struct {
	format atomic.Pointer[Format]

	mu         sync.Mutex
	components map[string]*component
	level      slog.Level

	out       sink
	scratches sync.Pool // of *scratch
}

// component is one named level.
type component struct {
	name  string
	level atomic.Int64
}

func (c *component) get() slog.Level { return slog.Level(c.level.Load()) }

// New returns a Log at level info in the default format that writes to w, one
// Write for each line.
func New(w io.Writer) *Log {
	l := &Log{components: make(map[string]*component), level: LevelInfo}
	l.out.w = w
	f, err := ParsePattern(DefaultPattern)
	if err != nil {
		panic(err) // the constant is wrong
	}
	l.format.Store(&f)
	l.component(defaultComponent)
	return l
}

// Open is New for a file that Reopen can open again (--log-path). It appends.
func Open(path string) (*Log, error) {
	l := New(nil)
	l.out.path = path
	if err := l.Reopen(); err != nil {
		return nil, err
	}
	return l, nil
}

// Reopen opens the log file anew under its name, for log rotation (SIGUSR1).
// Without a file it does nothing. On failure the old file stays in use.
func (l *Log) Reopen() error { return l.out.reopen() }

// Close closes the file, if there is one. Later lines are dropped.
func (l *Log) Close() error { return l.out.close() }

// SetFormat changes how lines look from the next record on.
func (l *Log) SetFormat(f Format) { l.format.Store(&f) }

// Logger returns the logger of component name (Envoy's names where Envoy has
// one: main, config, upstream, http, connection...).
func (l *Log) Logger(name string) *slog.Logger {
	return slog.New(&handler{log: l, component: l.component(name)})
}

// component finds or makes the named level.
func (l *Log) component(name string) *component {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.components[name]; c != nil {
		return c
	}
	if len(l.components) >= maxComponents {
		return l.components[defaultComponent]
	}
	c := &component{name: name}
	c.level.Store(int64(l.level))
	l.components[name] = c
	return c
}

// SetLevel sets every component's level, also of those to come.
func (l *Log) SetLevel(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level = level
	for _, c := range l.components {
		c.level.Store(int64(level))
	}
}

// SetComponentLevel sets one component's level. known is false, and nothing
// changes, when no logger of that name exists.
func (l *Log) SetComponentLevel(name string, level slog.Level) (known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.components[name]
	if c == nil {
		return false
	}
	c.level.Store(int64(level))
	return true
}

// Configure sets the level of components whose loggers may not exist yet
// (--component-log-level).
func (l *Log) Configure(list []ComponentLevel) {
	for _, e := range list {
		l.component(e.Component).level.Store(int64(e.Level))
	}
}

// Levels lists the components and their levels by name, as /logging shows them.
func (l *Log) Levels() []ComponentLevel {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]ComponentLevel, 0, len(l.components))
	for _, c := range l.components {
		list = append(list, ComponentLevel{Component: c.name, Level: c.get()})
	}
	slices.SortFunc(list, func(a, b ComponentLevel) int { return cmp.Compare(a.Component, b.Component) })
	return list
}

// sink is where lines go: a writer, or a file that can be reopened.
type sink struct {
	mu   sync.Mutex
	w    io.Writer
	file *os.File
	path string
}

// write drops lines that cannot be written: there is nowhere to say so.
func (s *sink) write(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w != nil {
		_, _ = s.w.Write(line)
	}
}

func (s *sink) reopen() error {
	if s.path == "" {
		return nil
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("applog: %w", err)
	}
	s.mu.Lock()
	old := s.file
	s.file, s.w = f, f
	s.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func (s *sink) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file, s.w = nil, nil
	return err
}
