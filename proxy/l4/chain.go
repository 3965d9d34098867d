package l4

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// chain is a filter chain in use. It is built on first use: what a pod does not
// talk to costs nothing.
type chain struct {
	spec   *Chain
	path   string // "filter_chains[2]", for errors
	env    filter.Env
	socket transport.Socket
	tls    *transport.TLSStats // nil for plain text
	conns  conns
	about  *meta.Configured // nil: neither the chain nor its listener has metadata

	once       sync.Once
	err        error
	discovered bool // the configuration of a filter comes over ECDS
	live       atomic.Pointer[lineup]
	mu         sync.Mutex
	retire     []func() // what filters registered with Env.OnRetire
}

// set is the filters of one connection, sorted by hook. It is used again for the
// next connection of its chain.
type set struct {
	of    *lineup
	all   []filter.Network
	open  []filter.ConnOpener
	read  []filter.ConnReader
	write []filter.ConnWriter // in reverse order
	close []filter.ConnCloser
	term  filter.ConnTerminal
}

// plain reports that no filter before the terminal one looks at data.
func (s *set) plain() bool { return len(s.read) == 0 && len(s.write) == 0 }

// build makes the chain's filters, once.
func (c *chain) build() error {
	c.once.Do(func() { c.err = filter.At(c.path, c.makeFilters()) })
	return c.err
}

// hooks are the methods that a network filter may have besides Reset.
var hooks = map[string]reflect.Type{
	"OnConn":  reflect.TypeFor[filter.ConnOpener](),
	"OnRead":  reflect.TypeFor[filter.ConnReader](),
	"OnWrite": reflect.TypeFor[filter.ConnWriter](),
	"OnClose": reflect.TypeFor[filter.ConnCloser](),
}

// checkHooks refuses filters that would silently never be called: without a hook,
// with one of the wrong name or signature, or in the wrong place.
func checkHooks(f filter.Network, name string, last bool) error {
	t := reflect.TypeOf(f)
	n := 0
	for i := range t.NumMethod() {
		m := t.Method(i).Name
		if !strings.HasPrefix(m, "On") {
			continue
		}
		want, known := hooks[m]
		switch {
		case !known:
			return fmt.Errorf("network filter %q: %s has the method %s, which is no hook", name, t, m)
		case !t.Implements(want):
			return fmt.Errorf("network filter %q: the method %s of %s has another signature than filter.%s", name, m, t, want.Name())
		}
		n++
	}
	_, terminal := f.(filter.ConnTerminal)
	switch {
	case terminal && !last:
		return fmt.Errorf("terminal filter named %s must be the last filter in a network filter chain", name)
	case !terminal && last:
		return fmt.Errorf("non-terminal filter named %s is the last filter in a network filter chain", name)
	case !terminal && n == 0:
		return fmt.Errorf("network filter %q: %s has no hook", name, t)
	}
	return nil
}

func (s *set) add(f filter.Network) {
	s.all = append(s.all, f)
	if h, ok := f.(filter.ConnOpener); ok {
		s.open = append(s.open, h)
	}
	if h, ok := f.(filter.ConnCloser); ok {
		s.close = append(s.close, h)
	}
	if t, ok := f.(filter.ConnTerminal); ok {
		s.term = t
		return
	}
	if h, ok := f.(filter.ConnReader); ok {
		s.read = append(s.read, h)
	}
	if h, ok := f.(filter.ConnWriter); ok {
		s.write = append(s.write, h)
	}
}

// onRetire registers f to be called when the chain and its last connection are gone.
func (c *chain) onRetire(f func()) {
	c.mu.Lock()
	c.retire = append(c.retire, f)
	c.mu.Unlock()
}

// end is called when no configuration names the chain and no connection uses it.
func (c *chain) end() {
	c.mu.Lock()
	fs := c.retire
	c.retire = nil
	c.mu.Unlock()
	for _, f := range slices.Backward(fs) {
		f()
	}
}
