package fault

import (
	"errors"
	"fmt"
	"math"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// parseNetwork decodes mecha.filters.network.fault.v1.Fault, a type of our own: this is its
// definition.
func parseNetwork(raw []byte, _ *filter.Parser) (*ConnConfig, error) {
	var pb struct {
		StatPrefix string `json:"stat_prefix"`
		Delay      *struct {
			Fixed      *fromproto.JSONDuration `json:"fixed_delay"`
			Percentage float64                 `json:"percentage"`
		} `json:"delay"`
		Abort *struct {
			Percentage float64 `json:"percentage"`
		} `json:"abort"`
		MaxActive *uint32 `json:"max_active_faults"`
	}
	if err := fromproto.Own(raw, &pb); err != nil {
		return nil, err
	}
	c := &ConnConfig{StatPrefix: pb.StatPrefix, Most: math.MaxInt64, DelayPercent: none, AbortPercent: none}
	if pb.StatPrefix == "" {
		return nil, filter.At("stat_prefix", errors.New("is required"))
	}
	if pb.MaxActive != nil {
		c.Most = int64(*pb.MaxActive)
	}
	var err error
	if d := pb.Delay; d != nil {
		if d.Fixed == nil || d.Fixed.Duration <= 0 {
			return nil, filter.At("delay.fixed_delay", errors.New("must be more than 0"))
		}
		c.Delay = d.Fixed.Duration
		if c.DelayPercent, err = percentage(d.Percentage); err != nil {
			return nil, filter.At("delay.percentage", err)
		}
	}
	if pb.Abort != nil {
		if c.AbortPercent, err = percentage(pb.Abort.Percentage); err != nil {
			return nil, filter.At("abort.percentage", err)
		}
	}
	return c, nil
}

// none is no share at all; the zero value of a fraction is everything.
var none = match.Fraction{Denominator: 100}

// percentage is a share of connections, to a millionth.
func percentage(p float64) (match.Fraction, error) {
	if !(p >= 0 && p <= 100) {
		return none, fmt.Errorf("%v is not from 0 to 100", p)
	}
	return match.Fraction{Numerator: uint32(math.Round(p * 10_000)), Denominator: 1_000_000}, nil
}
