package fromproto

import (
	"errors"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Backoff converts a BackoffStrategy; nil is none.
func Backoff(pb *corev3.BackoffStrategy) (b backoff.Policy, err error) {
	if pb == nil {
		return b, nil
	}
	b = backoff.Policy{Base: pb.BaseInterval.AsDuration(), Max: pb.MaxInterval.AsDuration()}
	switch {
	case b.Base < time.Millisecond:
		return b, filter.At("base_interval", errors.New("must be at least 1ms"))
	case pb.MaxInterval == nil:
		b.Max = 10 * b.Base
	case b.Max < b.Base:
		return b, filter.At("max_interval", errors.New("must be at least base_interval"))
	}
	return b, nil
}
