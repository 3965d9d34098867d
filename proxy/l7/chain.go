package l7

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// chain is one set of filter values for one stream, with a slice for each hook: a
// filter without a hook costs nothing there.
type chain struct {
	filters  []filter.HTTP
	terminal filter.Terminal

	requestHeaders   []hook[filter.RequestHeaders]
	requestData      []hook[filter.RequestData]
	requestTrailers  []hook[filter.RequestTrailers]
	responseHeaders  []hook[filter.ResponseHeaders] // in reverse order, as all response hooks
	responseData     []hook[filter.ResponseData]
	responseTrailers []hook[filter.ResponseTrailers]
	done             []hook[filter.Done]
}

type hook[F any] struct {
	index int // of the filter in its chain
	f     F
}

// factory builds chains.
type factory struct {
	names    []string
	slots    []filter.Slot
	disabled []bool
	make     []func() filter.HTTP
}

// maxFilters is how many filters a chain may have: one bit each.
const maxFilters = 64

func newFactory(filters []Filter, env filter.Env, slot func(string) filter.Slot) (*factory, error) {
	if len(filters) > maxFilters {
		return nil, fmt.Errorf("%d filters, at most %d are possible", len(filters), maxFilters)
	}
	fc := &factory{}
	for i, f := range filters {
		e := env
		e.Name, e.Slot = f.Name, slot(f.Name)
		mk, err := f.Factory(e)
		if err != nil {
			return nil, filter.AtIndex("", i, err)
		}
		if mk == nil {
			continue
		}
		if err := checkHooks(mk()); err != nil {
			return nil, filter.AtIndex("", i, err)
		}
		fc.names = append(fc.names, f.Name)
		fc.slots = append(fc.slots, e.Slot)
		fc.disabled = append(fc.disabled, f.Disabled)
		fc.make = append(fc.make, mk)
	}
	last := len(fc.make) - 1
	if last < 0 {
		return nil, fmt.Errorf("empty; the last filter must be a terminal one such as envoy.filters.http.router")
	}
	if _, ok := fc.make[last]().(filter.Terminal); !ok {
		return nil, filter.AtIndex("", last, fmt.Errorf("%s is not a terminal filter; the last one must be, such as envoy.filters.http.router", fc.names[last]))
	}
	for i := range last {
		if _, ok := fc.make[i]().(filter.Terminal); ok {
			return nil, filter.AtIndex("", i, fmt.Errorf("%s is a terminal filter and must be the last one", fc.names[i]))
		}
	}
	return fc, nil
}

// checkHooks finds the mistake that optional hooks invite: a method that looks like
// a hook and is none, because its name or its parameters are wrong.
func checkHooks(f filter.HTTP) error {
	n := countHooks(f)
	t := reflect.TypeOf(f)
	named := 0
	for i := range t.NumMethod() {
		if strings.HasPrefix(t.Method(i).Name, "On") {
			named++
		}
	}
	_, terminal := f.(filter.Terminal)
	switch {
	case named != n:
		return fmt.Errorf("%s has %d methods named On..., but only %d are hooks: check names and parameters", t, named, n)
	case n == 0 && !terminal:
		return fmt.Errorf("%s has no hook", t)
	}
	return nil
}

func countHooks(f filter.HTTP) (n int) {
	count := func(is bool) {
		if is {
			n++
		}
	}
	_, is := f.(filter.RequestHeaders)
	count(is)
	_, is = f.(filter.RequestData)
	count(is)
	_, is = f.(filter.RequestTrailers)
	count(is)
	_, is = f.(filter.ResponseHeaders)
	count(is)
	_, is = f.(filter.ResponseData)
	count(is)
	_, is = f.(filter.ResponseTrailers)
	count(is)
	_, is = f.(filter.Done)
	count(is)
	return n
}

func (fc *factory) build() *chain {
	c := &chain{}
	for i, mk := range fc.make {
		f := mk()
		c.filters = append(c.filters, f)
		c.requestHeaders = collect(c.requestHeaders, i, f)
		c.requestData = collect(c.requestData, i, f)
		c.requestTrailers = collect(c.requestTrailers, i, f)
		c.done = collect(c.done, i, f)
	}
	for i := len(c.filters) - 1; i >= 0; i-- {
		f := c.filters[i]
		c.responseHeaders = collect(c.responseHeaders, i, f)
		c.responseData = collect(c.responseData, i, f)
		c.responseTrailers = collect(c.responseTrailers, i, f)
	}
	c.terminal = c.filters[len(c.filters)-1].(filter.Terminal)
	return c
}

func collect[F any](hooks []hook[F], i int, f filter.HTTP) []hook[F] {
	if h, ok := f.(F); ok {
		return append(hooks, hook[F]{i, h})
	}
	return hooks
}

func (c *chain) reset() {
	for _, f := range c.filters {
		f.Reset()
	}
}

// off returns the filters that are switched off for a route, one bit each.
func (fc *factory) off(r filter.Route) (bits uint64) {
	for i, slot := range fc.slots {
		off := fc.disabled[i]
		if r != nil {
			if d, set := r.Disabled(slot); set {
				off = d
			}
		}
		if off {
			bits |= 1 << i
		}
	}
	return bits
}
