package dialogue

import (
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h1"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// standIn is a terminal filter in the router's place: one connection to upstream after
// the other, no limits, no retries, no request body after the answer. trailers tells
// which clusters pass them, active how many requests of a cluster are under way.
func standIn(dial func(cluster string) (net.Conn, error), trailers map[string]bool, active func(cluster string) *atomic.Int64) filter.Descriptor {
	return filter.HTTPSpec[struct{}]{
		Name:  "envoy.filters.http.router",
		Type:  "envoy.extensions.filters.http.router.v3.Router",
		Parse: func([]byte, *filter.Parser) (struct{}, error) { return struct{}{}, nil },
		New: func(struct{}, filter.Env) (func() filter.HTTP, error) {
			sh := &shared{dial: dial, trailers: trailers, active: active, idle: map[string][]*h1.ClientConn{}}
			return func() filter.HTTP { return &forwarder{shared: sh} }, nil
		},
	}
}

// shared is the connections of one chain.
type shared struct {
	dial     func(cluster string) (net.Conn, error)
	trailers map[string]bool // which clusters pass them
	active   func(cluster string) *atomic.Int64

	mu   sync.Mutex
	idle map[string][]*h1.ClientConn // by cluster
}

// take returns an idle connection or a new one.
func (sh *shared) take(cluster string) (*h1.ClientConn, error) {
	if c := sh.pop(cluster); c != nil {
		return c, nil
	}
	c, err := sh.dial(cluster)
	if err != nil {
		return nil, err
	}
	return h1.NewClient(netio.NewConn(c), h1.ClientOptions{
		Options: h1.Options{EnableTrailers: sh.trailers[cluster]},
	}), nil
}

func (sh *shared) pop(cluster string) *h1.ClientConn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for list := sh.idle[cluster]; len(list) > 0; list = sh.idle[cluster] {
		c := list[len(list)-1]
		sh.idle[cluster] = list[:len(list)-1]
		if c.Alive() {
			return c
		}
		_ = c.Close() // it is dead
	}
	return nil
}

func (sh *shared) give(cluster string, c *h1.ClientConn) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.idle[cluster] = append(sh.idle[cluster], c)
}

// forwarder serves one stream at a time.
type forwarder struct{ *shared }

var _ filter.Terminal = (*forwarder)(nil)

// Reset implements filter.HTTP.
func (f *forwarder) Reset() {}

var (
	noRoute     = filter.Reply{Code: 404, Details: "route_not_found", Flags: meta.NoRouteFound}
	unreachable = filter.Reply{Code: 503, Body: "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure", Details: "upstream_reset_before_response_started{remote_connection_failure}", Flags: meta.UpstreamConnectionFailure}
	terminated  = filter.Reply{Code: 503, Body: "upstream connect error or disconnect/reset before headers. reset reason: connection termination", Details: "upstream_reset_before_response_started{connection_termination}", Flags: meta.UpstreamConnectionTermination}
)

// ServeStream implements filter.Terminal.
func (f *forwarder) ServeStream(s *filter.Stream) error {
	r, ok := s.Route.(*route.Route)
	if !ok || r == nil {
		return &noRoute
	}
	switch r.Kind {
	case route.Redirect:
		return r.RedirectReply(s)
	case route.Direct:
		return r.DirectReply(s)
	}
	if err := r.FinalizeRequest(s, true); err != nil {
		return err
	}
	if t := r.Forward.Timeout; t > 0 {
		s.Request.SetInt(header.XEnvoyExpectedRqTimeoutMs, t.Milliseconds())
	}
	return f.forward(s, r)
}

func (f *forwarder) forward(s *filter.Stream, r *route.Route) error {
	cluster := r.ClusterName(s)
	active := f.active(cluster)
	active.Add(1)
	defer active.Add(-1)
	conn, err := f.take(cluster)
	if err != nil {
		return &unreachable
	}
	up, err := conn.Open(context.Background())
	if err != nil {
		_ = conn.Close() // it is given up
		return &unreachable
	}
	err = f.exchange(s, r, up)
	if up.Release() { // both sides were complete, whatever a filter has made of the response
		f.give(cluster, conn)
	} else {
		_ = conn.Close() // it is given up
	}
	return err
}

func (f *forwarder) exchange(s *filter.Stream, r *route.Route, up codec.ClientStream) error {
	end := s.Engine.RequestBody() == codec.End
	err := up.WriteHeaders(&s.Request, end)
	if err == nil {
		if end {
			err = up.Flush()
		} else {
			_, err = s.Engine.RelayRequest(up, nil, false)
		}
	}
	if err != nil {
		return err
	}
	for {
		s.Response.Reset()
		next, err := s.Engine.Await(up, &s.Response, s.Meta.Start.Add(patience))
		if err != nil {
			return failure(err)
		}
		if code, _ := strconv.Atoi(s.Response.Value(header.Status)); code < 200 {
			if err := s.Engine.SendInformational(&s.Response); err != nil {
				return err
			}
			continue
		}
		s.Response.SetInt(header.XEnvoyUpstreamServiceTime, 0)
		s.Meta.Details = "via_upstream"
		if err := r.FinalizeResponse(s); err != nil {
			return err
		}
		if err := s.Engine.SendHeaders(next == codec.End); err != nil {
			return err
		}
		return s.Engine.RelayResponse(up, next, s.Meta.Start.Add(patience))
	}
}

// failure leaves to the engine what it knows how to say.
func failure(err error) error {
	switch err.(type) {
	case *filter.Error, *filter.Reply:
		return err
	}
	return &terminated
}
