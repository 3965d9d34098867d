package ratelimit

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
)

// Service is whom to ask.
type Service struct{ call.GRPC }

// method is what services are asked by.
const method = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"

// verdict is what a service says.
type verdict uint8

const (
	failed verdict = iota // nothing: the zero value is no verdict
	within
	over
)

// answer is what a service says about a question, in memory of its own.
type answer struct {
	verdict  verdict
	statuses []status
	response []field // to be added to the response
	request  []field // to be added to the request
	body     string  // of the reply
	metadata map[string]any
}

// status is what a service says about one descriptor.
type status struct {
	over      bool
	limited   bool // there is a limit
	name      string
	requests  uint32 // in each window
	window    uint64 // seconds, 0: not known
	remaining uint32
	reset     int64 // seconds until the window is over
}

// field is a field that a service adds. Its name is in lower case.
type field struct{ name, value string }

// asker asks a service.
type asker struct {
	to      *Service
	client  *call.Client
	telling atomic.Int64 // questions that nobody waits for
}

func newAsker(to *Service, clusters cluster.Source) *asker {
	return &asker{to: to, client: call.NewClient(clusters)}
}

// ask asks. The error is that nobody waits any more; a service that does not answer has
// given no verdict.
func (k *asker) ask(w call.Waiter, entry *accesslog.Entry, q *question) (*answer, error) {
	a := &answer{}
	message, err := q.encode()
	if err != nil {
		return a, nil // no verdict
	}
	raw, err := k.client.Unary(w, &k.to.GRPC, method, entry, message)
	if err != nil {
		return a, call.Ended(err)
	}
	a.decode(raw)
	return a, nil
}

// The bounds of what is told without anybody waiting for it.
const (
	mostTold = 1000
	longTold = 10 * time.Second
)

// tell asks, and nobody waits for the answer. What does not fit is not told.
func (k *asker) tell(entry *accesslog.Entry, q *question) {
	if k.telling.Add(1) > mostTold {
		k.telling.Add(-1)
		return
	}
	message, err := q.encode()
	if err != nil {
		k.telling.Add(-1)
		return
	}
	to := k.to.GRPC
	to.Metadata = to.Fixed(entry)
	go func() {
		defer k.telling.Add(-1)
		ctx, cancel := context.WithTimeout(context.Background(), longTold)
		defer cancel()
		_, _ = k.client.Unary(call.Background(ctx), &to, method, nil, message) // nobody waits
	}()
}
