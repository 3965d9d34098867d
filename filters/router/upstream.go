package router

import (
	"sync"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// upstreamFilters returns the HTTP filters between here and the hosts of the cluster: its
// own, even if that is the codec alone, or where it has no list those of the router.
func (f *Filter) upstreamFilters() []filter.UpstreamFilter {
	if own, ok := f.cluster.Spec().Filters.([]filter.UpstreamFilter); ok {
		return own
	}
	return f.sh.config.Upstream
}

// around puts the upstream filters of the cluster, if there are any, before a stream to one
// of its hosts.
func (f *Filter) around(s *filter.Stream, up codec.ClientStream) codec.ClientStream {
	list := f.upstreamFilters()
	if len(list) == 0 {
		return up
	}
	if f.behind == nil {
		f.behind = &filtered{}
	}
	f.behind.begin(s, up, list)
	return f.behind
}

// filtered is a stream to a host with filters before it. The end of each attempt resets
// them, so that they may serve the next one.
type filtered struct {
	codec.ClientStream
	s       *filter.Stream
	monitor sync.Locker // hooks of the request run on another goroutine while its body arrives
	list    []filter.UpstreamFilter
	filters []filter.HTTP // of list
	off     []bool        // of them, for the route
}

var (
	_ codec.EndHolder = (*filtered)(nil)
	_ codec.Patient   = (*filtered)(nil)
)

func (u *filtered) begin(s *filter.Stream, up codec.ClientStream, list []filter.UpstreamFilter) {
	u.ClientStream, u.s, u.monitor = up, s, s.Engine.Monitor()
	if len(u.list) == 0 || &u.list[0] != &list[0] {
		u.list, u.filters = list, u.filters[:0]
		for i := range list {
			u.filters = append(u.filters, list[i].New())
		}
	}
	u.off = u.off[:0]
	for i := range list {
		off := list[i].Disabled
		if s.Route != nil {
			if d, set := s.Route.Disabled(list[i].Slot); set {
				off = d
			}
		}
		u.off = append(u.off, off)
	}
}

// WriteHeaders implements codec.Stream.
func (u *filtered) WriteHeaders(m *header.Map, end bool) error {
	err := u.request(func(f filter.HTTP) error {
		if h, ok := f.(filter.RequestHeaders); ok {
			return h.OnRequestHeaders(u.s, end)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return u.ClientStream.WriteHeaders(m, end)
}

// WriteTrailers implements codec.Stream.
func (u *filtered) WriteTrailers(m *header.Map) error {
	err := u.request(func(f filter.HTTP) error {
		if h, ok := f.(filter.RequestTrailers); ok {
			return h.OnRequestTrailers(u.s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return u.ClientStream.WriteTrailers(m)
}

// ReadHeaders implements codec.Stream. What a host says before its answer is for no filter.
func (u *filtered) ReadHeaders(m *header.Map) (codec.Next, error) {
	next, err := u.ClientStream.ReadHeaders(m)
	if code := m.StatusCode(); err != nil || code < 200 && code != 101 {
		return next, err
	}
	return next, u.response(func(f filter.HTTP) error {
		if h, ok := f.(filter.ResponseHeaders); ok {
			return h.OnResponseHeaders(u.s, next == codec.End)
		}
		return nil
	})
}

// ReadTrailers implements codec.Stream.
func (u *filtered) ReadTrailers(m *header.Map) error {
	if err := u.ClientStream.ReadTrailers(m); err != nil {
		return err
	}
	return u.response(func(f filter.HTTP) error {
		if h, ok := f.(filter.ResponseTrailers); ok {
			return h.OnResponseTrailers(u.s)
		}
		return nil
	})
}

func (u *filtered) request(hook func(filter.HTTP) error) error {
	u.monitor.Lock()
	defer u.monitor.Unlock()
	for i, f := range u.filters {
		if u.off[i] {
			continue
		}
		if err := hook(f); err != nil {
			return err
		}
	}
	return nil
}

// response is request in reverse order.
func (u *filtered) response(hook func(filter.HTTP) error) error {
	u.monitor.Lock()
	defer u.monitor.Unlock()
	for i := len(u.filters) - 1; i >= 0; i-- {
		if u.off[i] {
			continue
		}
		if err := hook(u.filters[i]); err != nil {
			return err
		}
	}
	return nil
}

// HoldEnd implements codec.EndHolder.
func (u *filtered) HoldEnd(on bool) {
	if h, ok := u.ClientStream.(codec.EndHolder); ok {
		h.HoldEnd(on)
	}
}

// Fits implements codec.Patient.
func (u *filtered) Fits(n int) bool {
	p, ok := u.ClientStream.(codec.Patient)
	return !ok || p.Fits(n)
}

// Release implements codec.ClientStream.
func (u *filtered) Release() bool {
	for _, f := range u.filters {
		f.Reset()
	}
	up := u.ClientStream
	u.ClientStream, u.s, u.monitor = nil, nil, nil
	return up.Release()
}
