package ads

import (
	"context"
	"errors"
	"io"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// link is one attempt: a connection with one stream, a goroutine that opens it and
// receives, and one that sends. After an event with an error there are no more.
type link struct {
	events chan linkEvent
	out    chan proto.Message // capacity 1: the machine offers the next one after "sent"
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// linkEvent is one of: opened, sent, a response, or the error that ended the link.
type linkEvent struct {
	opened, sent bool
	response     Response
	err          error
}

func openLink(ctx context.Context, cfg *Config, address string) *link {
	ctx, cancel := context.WithCancel(ctx)
	l := &link{events: make(chan linkEvent), out: make(chan proto.Message, 1), cancel: cancel}
	l.wg.Go(func() {
		err := l.run(ctx, cfg, address)
		cancel()
		l.post(ctx, linkEvent{err: err}, true)
	})
	return l
}

// close ends the link and waits for its goroutines. Unread events are dropped.
func (l *link) close() {
	l.cancel()
	done := make(chan struct{})
	go func() { l.wg.Wait(); close(done) }()
	for {
		select {
		case <-l.events:
		case <-done:
			return
		}
	}
}

// post hands an event to the session; the last one is handed over even though the
// link's context has ended, because close drains it.
func (l *link) post(ctx context.Context, e linkEvent, last bool) {
	if last {
		l.events <- e
		return
	}
	select {
	case l.events <- e:
	case <-ctx.Done():
	}
}

func (l *link) run(ctx context.Context, cfg *Config, address string) error {
	conn, err := newConn(address, cfg)
	if err != nil {
		return closedBy(err)
	}
	defer conn.Close()
	if len(cfg.Metadata) > 0 {
		ctx = metadata.NewOutgoingContext(ctx, cfg.Metadata)
	}
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := conn.NewStream(ctx, desc, cfg.Method, grpc.MaxCallRecvMsgSize(cfg.MaxMessageBytes))
	if err != nil {
		return closedBy(err)
	}
	l.post(ctx, linkEvent{opened: true}, false)
	l.wg.Go(func() { l.send(ctx, stream) })
	for {
		r, err := receive(stream, cfg.Variant)
		if errors.Is(err, io.EOF) {
			err = errors.New("ended by the control plane")
		}
		if err != nil {
			return closedBy(err)
		}
		l.post(ctx, linkEvent{response: r}, false)
	}
}

func (l *link) send(ctx context.Context, stream grpc.ClientStream) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-l.out:
			if stream.SendMsg(msg) != nil {
				return // the receiving side gets the reason
			}
			l.post(ctx, linkEvent{sent: true}, false)
		}
	}
}

func receive(stream grpc.ClientStream, v Variant) (Response, error) {
	if v == Delta {
		var r discoveryv3.DeltaDiscoveryResponse
		if err := stream.RecvMsg(&r); err != nil {
			return Response{}, err
		}
		return FromDelta(&r), nil
	}
	var r discoveryv3.DiscoveryResponse
	if err := stream.RecvMsg(&r); err != nil {
		return Response{}, err
	}
	return FromSotW(&r), nil
}
