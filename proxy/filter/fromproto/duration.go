package fromproto

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
)

// Duration converts a duration of zero or more; a nil one is otherwise.
func Duration(pb *durationpb.Duration, otherwise time.Duration) (time.Duration, error) {
	if pb == nil {
		return otherwise, nil
	}
	if err := pb.CheckValid(); err != nil {
		return 0, fmt.Errorf("%d.%09ds is not a duration", pb.Seconds, pb.Nanos)
	}
	d := pb.AsDuration()
	if d < 0 {
		return 0, fmt.Errorf("%v is negative", d)
	}
	return d, nil
}

// PositiveDuration is Duration for what must be more than zero.
func PositiveDuration(pb *durationpb.Duration, otherwise time.Duration) (time.Duration, error) {
	d, err := Duration(pb, otherwise)
	if err == nil && pb != nil && d == 0 {
		return 0, fmt.Errorf("%v is not more than zero", d)
	}
	return d, err
}
