package wasm

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Bounds of gRPC streams.
const (
	maxUnsent = 4 << 20          // bytes that a guest has sent and the service has not taken
	takeTime  = 60 * time.Second // for which a service may take nothing of a message
)

// grpcCall is a gRPC call or stream of a guest. It belongs to a root, as HTTP calls do.
type grpcCall struct {
	root   *Context
	token  uint32
	unary  bool
	target *call.GRPC
	method string
	cancel func()

	// Of a stream, with the instance locked.
	unsent [][]byte
	bytes  int
	closed bool          // the guest sends nothing more
	more   chan struct{} // there is more to send, or an end of it
}

// service reads whom to call: a serialised GrpcService, or the name of a cluster.
func (c *Context) service(raw, service, method, fields []byte) (*call.GRPC, string, Status) {
	env := &c.plugin.env
	t := call.GRPC{Cluster: string(raw), Authority: string(raw)}
	if parse := c.plugin.Config.Service; parse != nil {
		if parsed, err := parse(raw); err == nil {
			t = parsed
		}
	}
	if env.Clusters == nil || env.Clusters.Cluster(t.Cluster) == nil {
		return nil, "", StatusParseFailure
	}
	ok := readPairs(fields, func(name, value []byte) bool {
		if !valid(string(name), string(value)) {
			return false
		}
		if n := string(lowered(name)); n[0] != ':' && n != "te" && n != "content-type" {
			t.Metadata = append(t.Metadata, call.Metadata{Name: n, Value: string(value)})
		}
		return true
	})
	path := "/" + string(service) + "/" + string(method)
	if !ok || !valid("x", path) {
		return nil, "", StatusBadArgument
	}
	return &t, path, StatusOK
}

func lowered(p []byte) []byte {
	out := make([]byte, len(p))
	for i, b := range p {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		out[i] = b
	}
	return out
}

// openGRPC notes a call that begins, for a[0:8] (service, service name, method, metadata).
func (in *Instance) openGRPC(a []uint64, tokenAt uint64) (*grpcCall, Status) {
	c := in.effective
	if c == nil {
		return nil, StatusBadArgument
	}
	if c.root != nil {
		c = c.root
	}
	raw, ok1 := in.view(a[0], a[1])
	service, ok2 := in.view(a[2], a[3])
	method, ok3 := in.view(a[4], a[5])
	fields, ok4 := in.view(a[6], a[7])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, StatusInvalidMemoryAccess
	}
	if in.calls >= maxCalls {
		c.plugin.counters.Denied.Inc()
		return nil, StatusInternalFailure
	}
	t, path, s := c.service(raw, service, method, fields)
	if s != StatusOK {
		return nil, s
	}
	g := &grpcCall{root: c, token: in.token + 1, target: t, method: path}
	if s := in.put32(tokenAt, g.token); s != StatusOK {
		return nil, s
	}
	in.token++
	in.calls++
	if in.grpc == nil {
		in.grpc = map[uint32]*grpcCall{}
	}
	in.grpc[g.token] = g
	return g, StatusOK
}

// grpcCall is (service, service name, method, metadata, message, timeout in ms, where the
// token goes).
func (in *Instance) grpcCall(a []uint64) Status {
	message, ok := in.view(a[8], a[9])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	timeout := time.Duration(uint32(a[10])) * time.Millisecond
	g, s := in.openGRPC(a, a[11])
	if s != StatusOK {
		return s
	}
	g.unary, g.target.Timeout = true, timeout
	ctx, cancel := context.WithCancel(in.life)
	g.cancel = cancel
	go g.ask(ctx, append([]byte(nil), message...))
	return StatusOK
}

// grpcStream is (service, service name, method, metadata, where the token goes).
func (in *Instance) grpcStream(a []uint64) Status {
	g, s := in.openGRPC(a, a[8])
	if s != StatusOK {
		return s
	}
	ctx, cancel := context.WithCancel(in.life)
	g.cancel, g.more = cancel, make(chan struct{}, 1)
	go g.converse(ctx)
	return StatusOK
}

// grpcSend is (token, message, whether it is the last one).
func (in *Instance) grpcSend(a []uint64) Status {
	message, ok := in.view(a[1], a[2])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	g := in.grpc[uint32(a[0])]
	switch {
	case g == nil:
		return StatusNotFound
	case g.unary || g.closed:
		return StatusBadArgument
	case g.bytes+len(message)+64 > maxUnsent:
		g.root.plugin.counters.Denied.Inc()
		return StatusInternalFailure
	}
	g.unsent = append(g.unsent, append([]byte{}, message...))
	g.bytes += len(message) + 64
	g.closed = uint32(a[3]) != 0
	g.wake()
	return StatusOK
}

func (g *grpcCall) wake() {
	select {
	case g.more <- struct{}{}:
	default:
	}
}

// grpcCancel ends a call or a stream, of which the guest hears nothing more.
func (in *Instance) grpcCancel(a []uint64) Status {
	g := in.grpc[uint32(a[0])]
	if g == nil {
		return StatusNotFound
	}
	delete(in.grpc, g.token)
	g.cancel()
	return StatusOK
}

// grpcClose tells the service that no more messages come; a call is cancelled.
func (in *Instance) grpcClose(a []uint64) Status {
	g := in.grpc[uint32(a[0])]
	if g != nil && !g.unary {
		g.closed = true
		g.wake()
		return StatusOK
	}
	return in.grpcCancel(a)
}

// ask makes a call with one message each way.
func (g *grpcCall) ask(ctx context.Context, message []byte) {
	defer g.cancel()
	answer, err := call.NewClient(g.root.plugin.env.Clusters).Unary(call.Background(ctx), g.target, g.method, nil, message)
	if err != nil {
		g.tell(&callInfo{status: statusOf(err)}, true, onGRPCClose)
		return
	}
	g.tellMessage(answer, true)
}

// statusOf is what an error says as a gRPC status. As in Envoy, the text ends with how it is known.
func statusOf(err error) *call.Status {
	var s *call.Status
	switch {
	case errors.As(err, &s) && s.Message != "":
		return &call.Status{Code: s.Code, Message: s.Message + "{via_upstream}"}
	case s != nil:
		return &call.Status{Code: s.Code, Message: "via_upstream"}
	case errors.Is(err, io.EOF):
		return &call.Status{Message: "via_upstream"}
	case errors.Is(err, call.ErrTimeout):
		return &call.Status{Code: 4, Message: "upstream request timeout"}
	case errors.Is(err, call.ErrMessage), errors.Is(err, call.ErrTooLarge):
		return &call.Status{Code: 13}
	}
	return &call.Status{Code: 14, Message: "upstream connect error or disconnect/reset before headers"}
}

// converse runs a stream until its end.
func (g *grpcCall) converse(ctx context.Context) {
	defer g.cancel()
	st, err := call.NewClient(g.root.plugin.env.Clusters).Open(call.Background(ctx), g.target, g.method, nil, time.Now().Add(takeTime))
	if err != nil {
		g.finish(nil, err)
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		g.send(ctx, st)
	}()
	g.receive(st)
	g.cancel()
	<-sent
	st.Close()
}

// receive tells the guest of all that the service says.
func (g *grpcCall) receive(st *call.Stream) {
	head, last, err := st.ReceiveHead(time.Time{})
	if err != nil {
		g.finish(nil, err)
		return
	}
	if initial := head; head.StatusCode() == 200 {
		if last {
			initial = &header.Map{} // as in Envoy
		}
		g.tell(&callInfo{initial: initial}, false, onGRPCInitialMetadata)
	}
	for {
		m, err := st.Receive(time.Time{})
		if err != nil {
			trailers := st.Trailers()
			if last {
				trailers = head
			}
			g.finish(trailers, err)
			return
		}
		g.tellMessage(m, false)
	}
}

// finish tells the guest that the stream has ended.
func (g *grpcCall) finish(trailers *header.Map, err error) {
	if trailers == nil {
		trailers = &header.Map{}
	}
	g.tell(&callInfo{trailing: trailers}, false, onGRPCTrailingMetadata)
	g.tell(&callInfo{status: statusOf(err)}, true, onGRPCClose)
}

func (g *grpcCall) tellMessage(m []byte, last bool) {
	info := &callInfo{hasMessage: true}
	info.body.Append(m)
	defer info.body.Release()
	g.tell(info, last, onGRPCMessage)
}

// tell calls the guest, unless it wants to hear nothing more. last tells that it does not
// afterwards.
func (g *grpcCall) tell(info *callInfo, last bool, cb callback) {
	c := g.root
	in := c.in
	in.mu.Lock()
	defer in.mu.Unlock()
	known := in.grpc[g.token] == g
	if last {
		in.calls--
		delete(in.grpc, g.token)
	}
	if !known || c.over || in.closed || c.failed {
		return
	}
	var n uint64
	switch cb {
	case onGRPCInitialMetadata:
		n = uint64(info.initial.Len())
	case onGRPCTrailingMetadata:
		n = uint64(info.trailing.Len())
	case onGRPCMessage:
		n = uint64(info.body.Len())
	default:
		n = uint64(info.status.Code)
	}
	before := in.call
	in.call = info
	_, _, _ = c.invoke(cb, uint64(g.token), n) // a failure is noted
	in.call = before
}

// send sends what the guest has sent, until its end.
func (g *grpcCall) send(ctx context.Context, st *call.Stream) {
	in := g.root.in
	for {
		in.mu.Lock()
		all, closed := g.unsent, g.closed
		g.unsent = nil
		in.mu.Unlock()
		for _, m := range all {
			if st.Send(m, time.Now().Add(takeTime)) != nil {
				return // the receiver knows why
			}
			in.mu.Lock()
			g.bytes -= len(m) + 64
			in.mu.Unlock()
		}
		if closed {
			_ = st.CloseSend() // the receiver knows why
			return
		}
		select {
		case <-g.more:
		case <-ctx.Done():
			return
		}
	}
}

// status is (where the code goes, the message, its size): of the call that has ended.
func (in *Instance) status(a []uint64) Status {
	var s call.Status
	if in.call != nil && in.call.status != nil {
		s = *in.call.status
	}
	if st := in.put32(a[0], uint32(s.Code)); st != StatusOK {
		return st
	}
	return in.give(s.Message, a[1], a[2])
}
