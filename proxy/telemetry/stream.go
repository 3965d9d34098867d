package telemetry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// Backoff says how often, and after what time, a message is tried again that could not be
// sent (grpc_stream_retry_policy). The zero value does not try again.
type Backoff struct {
	Retries        int // num_retries
	backoff.Policy     // retry_back_off
}

// connected sends, and again where the service could not be connected to: what it may have heard
// is not said twice.
func (b Backoff) connected(ctx context.Context, send func() error) error {
	for try := 0; ; try++ {
		err := send()
		if try >= b.Retries || !errors.As(err, new(*cluster.ConnectError)) || b.Wait(ctx, try+1) != nil {
			return err
		}
	}
}

// reconnect is how long a stream is not opened again after failures, where the
// configuration does not say.
var reconnect = backoff.Policy{Base: 500 * time.Millisecond, Max: 10 * time.Second}

// stream is a gRPC call to a service of Envoy's that goes on while messages come, and is
// opened anew when it was lost. The first message of each call says who sends. One goroutine
// at a time uses it.
type stream struct {
	client     *call.Client
	target     *call.GRPC
	method     string
	identifier []byte // fields that precede those of the first message
	backoff    Backoff

	mu       sync.Mutex   // guards open: the service may end it at any time
	open     *call.Stream // nil: there is none
	cancel   context.CancelFunc
	ended    chan struct{} // closed when the service has ended it
	failures int           // in a row
	not      time.Time     // it is not opened before
}

// send sends a message, and tries again as the back-off says. An error tells that it is lost.
func (s *stream) send(ctx context.Context, message []byte) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 0; ; try++ {
		if err = s.wait(ctx); err != nil {
			return err
		}
		if err = s.once(message); err == nil {
			s.failures = 0
			return nil
		}
		s.close()
		s.failures++
		if try >= s.backoff.Retries {
			s.not = time.Now().Add(reconnect.Pause(s.failures))
			return err
		}
		s.not = time.Now().Add(s.backoff.Pause(try + 1))
	}
}

// wait waits until the stream may be opened again.
func (s *stream) wait(ctx context.Context) error {
	if s.alive() {
		return nil
	}
	s.close()
	d := time.Until(s.not)
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alive reports whether there is a stream that the service has not ended.
func (s *stream) alive() bool {
	if s.open == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// once sends a message on the stream, and opens it if there is none.
func (s *stream) once(message []byte) error {
	until := time.Now().Add(patience(s.target))
	if s.open == nil {
		ctx, cancel := context.WithCancel(context.Background())
		open, err := s.client.Open(call.Background(ctx), s.target, s.method, nil, until)
		if err != nil {
			cancel()
			return err
		}
		s.open, s.cancel, s.ended = open, cancel, make(chan struct{})
		go s.listen(open, s.ended)
		message = append(append(make([]byte, 0, len(s.identifier)+len(message)), s.identifier...), message...)
	}
	return s.open.Send(message, until)
}

// listen waits for the end of a call, and gives back what it holds. What the service says
// before is empty.
func (s *stream) listen(open *call.Stream, ended chan<- struct{}) {
	for {
		if _, err := open.Receive(time.Time{}); err != nil {
			break
		}
	}
	close(ended)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == open {
		s.close()
	}
}

// patience is how long the service may take to take a message.
func patience(g *call.GRPC) time.Duration {
	if g.Timeout > 0 {
		return g.Timeout
	}
	return 10 * time.Second
}

// finish ends the stream in good order: the service hears that nothing more comes, and may
// say that it has heard all until ctx ends.
func (s *stream) finish(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alive() && s.open.CloseSend() == nil {
		select {
		case <-s.ended:
		case <-ctx.Done():
		}
	}
	s.close()
}

// close gives the stream up, if there is one. The caller holds s.mu.
func (s *stream) close() {
	if s.open == nil {
		return
	}
	s.cancel()
	<-s.ended
	s.open.Close()
	s.open = nil
}

// identifier is the field of that name: the node, and where there is one the name of a log.
func (h *Hub) identifier(log string) []byte {
	b, mark := wire.Begin(nil, 1)
	b = wire.Bytes(b, 1, h.o.NodeMessage)
	return wire.End(wire.Text(b, 2, log), mark)
}
