package router

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// pump moves the rest of the request body on a second goroutine, borrowed only while
// the body is still arriving after its head.
type pump struct {
	running bool
	ended   atomic.Bool
	wg      sync.WaitGroup
	err     error
	done    atomic.Int64 // when the request was complete, Unix nanoseconds; 0: it is not
	run     func()       // made once, so that a start takes no memory

	engine filter.Engine
	up     codec.ClientStream
	replay *filter.Replay

	sh       *shared
	shadows  *mirrors
	trailers *header.Map
}

func (p *pump) start(f *Filter, s *filter.Stream) {
	f.hold(false)
	p.running, p.err = true, nil
	p.engine, p.up, p.replay = s.Engine, f.up, f.replayOrNil()
	p.sh, p.shadows, p.trailers = f.sh, &f.shadows, &s.RequestTrailers
	p.ended.Store(false)
	p.done.Store(0)
	if p.run == nil {
		p.run = p.move
	}
	p.wg.Add(1)
	go p.run()
}

func (p *pump) move() {
	defer p.wg.Done()
	defer p.ended.Store(true)
	_, err := p.engine.RelayRequest(p.up, p.replay, false)
	if err == nil {
		p.shadows.send(p.sh, p.replay, p.trailers)
		p.done.Store(time.Now().UnixNano())
		return
	}
	p.err = err
	if !upstreamFault(err) { // then there may be an answer that explains it
		p.up.Interrupt() // wakes the goroutine that waits for the response
	}
}

// stopGrace is how long the pump may take to end by itself: what it has just written to the
// end need not cost a connection.
const stopGrace = 250 * time.Millisecond

// stop waits for the pump to end, interrupting it if the exchange is over before the
// request is. It reports whether the request was sent to its end.
func (p *pump) stop(s *filter.Stream) bool {
	if !p.running {
		return true
	}
	if !p.ended.Load() {
		s.Engine.InterruptRequest()
		call.StopWriting(p.up, time.Now().Add(stopGrace), p.wg.Wait)
	}
	p.wg.Wait()
	p.running = false
	p.engine, p.up, p.replay = nil, nil, nil
	return p.err == nil && s.Engine.RequestBody() == codec.End
}
