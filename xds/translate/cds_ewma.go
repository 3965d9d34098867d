package translate

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// typedPeakEWMA translates contrib's PeakEwma (v3alpha), whose message is not among
// the ones that this build links: its five fields are read one by one. How samples are
// buffered (aggregation_interval, max_samples_per_host) concerns threads that we don't
// have.
func typedPeakEWMA(raw []byte, policy *cluster.Policy, _ *filter.Parser) error {
	policy.Kind = cluster.PeakEWMALB
	l := &policy.Latency
	*l = cluster.Latency{Decay: 10 * time.Second, Default: 10 * time.Millisecond, Penalty: 1e6}
	for len(raw) > 0 {
		number, wire, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]
		if number > 5 || wire != protowire.BytesType {
			return fmt.Errorf("field %d of PeakEwma is not known", number)
		}
		value, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]
		var err error
		switch number {
		case 1:
			err = filter.At("decay_time", ewmaDuration(value, &l.Decay))
		case 4:
			err = filter.At("default_rtt", ewmaDuration(value, &l.Default))
		case 5:
			var v wrapperspb.DoubleValue
			if err = proto.Unmarshal(value, &v); err == nil && (v.Value < 0 || math.IsNaN(v.Value)) {
				err = errors.New("must not be negative")
			}
			l.Penalty, err = v.Value, filter.At("penalty_value", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func ewmaDuration(raw []byte, into *time.Duration) error {
	var v durationpb.Duration
	if err := proto.Unmarshal(raw, &v); err != nil {
		return err
	}
	d, err := fromproto.PositiveDuration(&v, 0)
	*into = d
	return err
}
