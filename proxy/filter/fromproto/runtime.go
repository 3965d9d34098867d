package fromproto

import (
	"errors"
	"math"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// RuntimeFraction converts the default of a RuntimeFractionalPercent, for what cannot
// be overridden. What can uses RuntimeFractional.
func RuntimeFraction(pb *corev3.RuntimeFractionalPercent) match.Fraction {
	return Fraction(pb.GetDefaultValue())
}

// RuntimeFractional converts a RuntimeFractionalPercent; nil is def without a key.
func RuntimeFractional(pb *corev3.RuntimeFractionalPercent, def runtime.Fraction) runtime.FractionSetting {
	if pb == nil {
		return runtime.FractionSetting{Default: def}
	}
	return runtime.FractionSetting{Key: pb.RuntimeKey, Default: Fraction(pb.DefaultValue)}
}

// RuntimeUint converts a RuntimeUInt32; nil is def without a key.
func RuntimeUint(pb *corev3.RuntimeUInt32, def uint32) runtime.UintSetting {
	if pb == nil {
		return runtime.UintSetting{Default: uint64(def), Max: math.MaxUint32}
	}
	return runtime.UintSetting{Key: pb.RuntimeKey, Default: uint64(pb.DefaultValue), Max: math.MaxUint32}
}

// RuntimeDouble converts a RuntimeDouble; nil is def without a key.
func RuntimeDouble(pb *corev3.RuntimeDouble, def float64) runtime.DoubleSetting {
	if pb == nil {
		return runtime.DoubleSetting{Default: def}
	}
	return runtime.DoubleSetting{Key: pb.RuntimeKey, Default: pb.DefaultValue}
}

// RuntimePercent converts a RuntimePercent, whose value is from 0 to 100; nil is def
// without a key.
func RuntimePercent(pb *corev3.RuntimePercent, def float64) (runtime.DoubleSetting, error) {
	if pb == nil {
		return runtime.DoubleSetting{Default: def, Percent: true}, nil
	}
	v := pb.GetDefaultValue().GetValue()
	if !(v >= 0 && v <= 100) { // NaN neither
		return runtime.DoubleSetting{}, filter.At("default_value", errors.New("must be from 0 to 100"))
	}
	return runtime.DoubleSetting{Key: pb.RuntimeKey, Default: v, Percent: true}, nil
}

// RuntimeFlag converts a RuntimeFeatureFlag; nil is def without a key.
func RuntimeFlag(pb *corev3.RuntimeFeatureFlag, def bool) runtime.FlagSetting {
	if pb == nil {
		return runtime.FlagSetting{Default: def}
	}
	return runtime.FlagSetting{Key: pb.RuntimeKey, Default: pb.GetDefaultValue().GetValue()}
}
