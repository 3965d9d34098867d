package cluster

import (
	"math"
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// slowStart lessens the weights of hosts that have come, or become healthy, within the
// window. A nil slowStart leaves them as they are.
type slowStart struct {
	m          *Manager
	window     time.Duration
	aggression runtime.DoubleValue
	least      float64 // part of the weight that a host has at once
}

// newSlowStart returns nil if none of the hosts is in its slow start.
func newSlowStart(env *lbEnv, s *SlowStart, hosts []*Host) *slowStart {
	if s.Window <= 0 {
		return nil
	}
	slow := &slowStart{env.m, s.Window, s.Aggression.On(env.m.options.Runtime), s.MinPercent / 100}
	for _, h := range hosts {
		if slow.age(h) < s.Window {
			return slow
		}
	}
	return nil
}

// age returns for how long a host is healthy, in whole milliseconds.
func (s *slowStart) age(h *Host) time.Duration {
	since := h.ep.healthySince.Load()
	if since == 0 || h.Flags().unhealthy() {
		return math.MaxInt64
	}
	return (s.m.now() - time.Duration(since-1)).Truncate(time.Millisecond)
}

// weight returns what is left of the weight of a host.
func (s *slowStart) weight(h *Host, weight float64) float64 {
	if s == nil {
		return weight
	}
	age := s.age(h)
	if age >= s.window {
		return weight
	}
	part := float64(max(age, time.Millisecond)) / float64(s.window)
	if a := s.aggression.Get(); a > 0 && a != 1 {
		part = math.Pow(part, 1/a)
	}
	return weight * max(part, s.least)
}
