package telemetry

import (
	"context"
	"sync"
)

// outbox sends what one flush after another has made, on a goroutine that lives as long as
// there is something to send. One flush may wait while another is sent: what comes then is
// dropped, so that a service that does not answer costs twice the memory of a flush, and
// gets news when it answers again.
type outbox struct {
	send func(ctx context.Context, messages [][]byte)

	mu      sync.Mutex
	waiting [][]byte
	busy    bool
	closed  bool
	idle    chan struct{} // closed when nothing is sent any more, once closed is set
	ctx     context.Context
	stop    context.CancelFunc
}

func newOutbox(send func(ctx context.Context, messages [][]byte)) *outbox {
	o := &outbox{send: send, idle: make(chan struct{})}
	o.ctx, o.stop = context.WithCancel(context.Background())
	return o
}

// put hands messages over, and reports whether there was room.
func (o *outbox) put(messages [][]byte) bool {
	if len(messages) == 0 {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.waiting != nil {
		return false
	}
	o.waiting = messages
	if !o.busy {
		o.busy = true
		go o.run()
	}
	return true
}

func (o *outbox) run() {
	for {
		o.mu.Lock()
		messages := o.waiting
		o.waiting = nil
		if messages == nil {
			if o.busy = false; o.closed {
				close(o.idle)
			}
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		o.send(o.ctx, messages)
	}
}

// Close waits until all is sent, or ctx ends, and reports whether nothing is sent any more.
// It may be called once.
func (o *outbox) Close(ctx context.Context) bool {
	defer o.stop()
	o.mu.Lock()
	o.closed = true
	busy := o.busy
	o.mu.Unlock()
	if !busy {
		return true
	}
	select {
	case <-o.idle:
		return true
	case <-ctx.Done():
		return false
	}
}
