package breaker

import (
	"errors"
	"fmt"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// message is mecha.filters.http.breaker.v1.Breaker, a type of our own: its JSON form is
// its definition, and a TypedStruct how it travels.
type message struct {
	ConsecutiveFailures *uint32                 `json:"consecutive_failures"`
	FailurePercentage   *float64                `json:"failure_percentage"`
	MinimumRequests     *uint32                 `json:"minimum_requests"`
	SamplingWindow      *fromproto.JSONDuration `json:"sampling_window"`
	OpenTime            *fromproto.JSONDuration `json:"open_time"`
	MaxOpenTime         *fromproto.JSONDuration `json:"max_open_time"`
	HalfOpenRequests    *uint32                 `json:"half_open_requests"`
	HalfOpenSuccesses   *uint32                 `json:"half_open_successes"`
	FailureStatuses     []statuses              `json:"failure_statuses"`
	GRPCFailures        []uint32                `json:"grpc_failure_statuses"`
}

type statuses struct {
	Start int `json:"start"`
	End   int `json:"end"`
}

// defaultGRPC are DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE and
// DATA_LOSS.
const defaultGRPC = 1<<4 | 1<<8 | 1<<13 | 1<<14 | 1<<15

// parse decodes mecha.filters.http.breaker.v1.Breaker.
func parse(raw []byte, _ *filter.Parser) (*Limits, error) {
	var pb message
	if err := fromproto.Own(raw, &pb); err != nil {
		return nil, err
	}
	l := &Limits{
		Consecutive: or(pb.ConsecutiveFailures, 5), Percentage: or(pb.FailurePercentage, 0), Requests: max(or(pb.MinimumRequests, 20), 1),
		Probes: or(pb.HalfOpenRequests, 1), Successes: or(pb.HalfOpenSuccesses, 3),
		HTTP: []Range{{500, 599}}, GRPC: defaultGRPC,
	}
	var err error
	length := func(name string, d *fromproto.JSONDuration, def, least time.Duration) time.Duration {
		switch {
		case d == nil:
			return def
		case d.Duration < least && err == nil:
			err = filter.At(name, fmt.Errorf("%v is less than %v", d.Duration, least))
		}
		return d.Duration
	}
	l.Window = length("sampling_window", pb.SamplingWindow, 10*time.Second, time.Second)
	l.OpenTime = length("open_time", pb.OpenTime, 5*time.Second, time.Millisecond)
	l.MaxOpenTime = length("max_open_time", pb.MaxOpenTime, max(time.Minute, l.OpenTime), l.OpenTime)
	switch {
	case err != nil:
		return nil, err
	case !(l.Percentage >= 0 && l.Percentage <= 100):
		return nil, filter.At("failure_percentage", errors.New("must be from 0 to 100"))
	case l.Consecutive == 0 && l.Percentage == 0:
		return nil, errors.New("one of consecutive_failures, failure_percentage must be more than 0")
	case l.Probes == 0:
		return nil, filter.At("half_open_requests", errors.New("must be more than 0"))
	case l.Successes == 0:
		return nil, filter.At("half_open_successes", errors.New("must be more than 0"))
	}
	return l, l.failures(&pb)
}

// failures sets what a failure is.
func (l *Limits) failures(pb *message) error {
	if pb.FailureStatuses != nil {
		l.HTTP = nil
		for i, r := range pb.FailureStatuses {
			if r.Start < 100 || r.End > 599 || r.Start > r.End {
				return filter.AtIndex("failure_statuses", i, fmt.Errorf("%d to %d is not a range within 100 and 599", r.Start, r.End))
			}
			l.HTTP = append(l.HTTP, Range{r.Start, r.End})
		}
	}
	if pb.GRPCFailures != nil {
		l.GRPC = 0
		for i, status := range pb.GRPCFailures {
			if status == 0 || status > 16 {
				return filter.AtIndex("grpc_failure_statuses", i, fmt.Errorf("%d is no status of an error", status))
			}
			l.GRPC |= 1 << status
		}
	}
	return nil
}

func or[T any](p *T, def T) T {
	if p != nil {
		return *p
	}
	return def
}
