package translate

import (
	"errors"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// halfOpenType is a type of our own, among the typed_extension_protocol_options of a
// cluster.
const halfOpenType = "mecha.cluster.v1.HalfOpen"

// halfOpen adds the trial of hosts to the outlier detection of a cluster.
func halfOpen(raw []byte, spec *cluster.Spec) error {
	pb := struct {
		Requests  uint32 `json:"requests"`
		Successes uint32 `json:"successes"`
	}{1, 3}
	if err := fromproto.Own(raw, &pb); err != nil {
		return err
	}
	switch {
	case spec.Outlier == nil:
		return errors.New("needs outlier_detection, which says when hosts are ejected")
	case pb.Requests == 0:
		return filter.At("requests", errors.New("must be more than 0"))
	case pb.Successes == 0:
		return filter.At("successes", errors.New("must be more than 0"))
	}
	spec.Outlier.HalfOpen = &outlier.HalfOpen{Requests: pb.Requests, Successes: pb.Successes}
	return nil
}
