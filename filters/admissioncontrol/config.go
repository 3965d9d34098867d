package admissioncontrol

import (
	"errors"
	"fmt"
	"time"

	admissionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/admission_control/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.admission_control.v3.AdmissionControl.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb admissionv3.AdmissionControl
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"enabled", "success_criteria", "sampling_window", "aggression", "sr_threshold", "rps_threshold", "max_rejection_probability",
	}})
	if err != nil {
		return nil, err
	}
	c := &Config{
		Enabled:    fromproto.RuntimeFlag(pb.Enabled, true),
		Aggression: fromproto.RuntimeDouble(pb.Aggression, 1),
		RPS:        fromproto.RuntimeUint(pb.RpsThreshold, 0),
	}
	if c.Window, err = fromproto.Duration(pb.SamplingWindow, 30*time.Second); err != nil {
		return nil, filter.At("sampling_window", err)
	}
	if c.Threshold, err = fromproto.RuntimePercent(pb.SrThreshold, 95); err == nil && c.Threshold.Default < leastThreshold {
		err = filter.At("default_value", errors.New("must be at least 1"))
	}
	if err != nil {
		return nil, filter.At("sr_threshold", err)
	}
	if c.Most, err = fromproto.RuntimePercent(pb.MaxRejectionProbability, 80); err != nil {
		return nil, filter.At("max_rejection_probability", err)
	}
	return c, filter.At("success_criteria", c.criteria(pb.GetSuccessCriteria()))
}

// criteria sets what a success is.
func (c *Config) criteria(pb *admissionv3.AdmissionControl_SuccessCriteria) error {
	c.HTTP, c.GRPC = []Range{{100, 500}}, defaultGRPC
	if h := pb.GetHttpCriteria(); h != nil {
		c.HTTP = nil
		for i, r := range h.HttpSuccessStatus {
			if r.Start < 100 || r.End > 600 || r.Start > r.End {
				err := fmt.Errorf("%d to %d is not a range within 100 and 600", r.Start, r.End)
				return filter.AtIndex("http_criteria.http_success_status", i, err)
			}
			c.HTTP = append(c.HTTP, Range{int(r.Start), int(r.End)})
		}
	}
	if g := pb.GetGrpcCriteria(); g != nil {
		c.GRPC = 0
		for i, status := range g.GrpcSuccessStatus {
			if status > 16 {
				return filter.AtIndex("grpc_criteria.grpc_success_status", i, fmt.Errorf("there is no status %d", status))
			}
			c.GRPC |= 1 << status
		}
	}
	return nil
}

// defaultGRPC are OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS,
// PERMISSION_DENIED, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED and UNAUTHENTICATED:
// what fewer requests would not change.
const defaultGRPC = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7 | 1<<9 | 1<<11 | 1<<12 | 1<<16
