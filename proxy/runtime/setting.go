package runtime

import "math"

// A setting is a default and the key that overrides it, plain data as configuration
// has it (RuntimeUInt32 and its like). On gives the same with its handle, for the path
// of a request. The zero handle has the zero default and no key.

// FractionSetting is RuntimeFractionalPercent.
type FractionSetting struct {
	Key     string
	Default Fraction
}

// UintSetting is RuntimeUInt32 or RuntimeUInt64.
type UintSetting struct {
	Key     string
	Default uint64
	Max     uint64 // a greater value in the runtime is not taken; 0 is no limit
}

// DoubleSetting is RuntimeDouble, or RuntimePercent where Percent is set.
type DoubleSetting struct {
	Key     string
	Default float64
	Percent bool // a value in the runtime outside 0 to 100 is not taken
}

// FlagSetting is RuntimeFeatureFlag.
type FlagSetting struct {
	Key     string
	Default bool
}

// On returns the handle of the setting in r, which may be nil.
func (s FractionSetting) On(r *Runtime) FractionValue { return FractionValue{r.Key(s.Key), s.Default} }

// On returns the handle of the setting in r, which may be nil.
func (s UintSetting) On(r *Runtime) UintValue {
	if s.Max == 0 {
		s.Max = math.MaxUint64
	}
	return UintValue{r.Key(s.Key), s.Default, s.Max}
}

// On returns the handle of the setting in r, which may be nil.
func (s DoubleSetting) On(r *Runtime) DoubleValue {
	return DoubleValue{r.Key(s.Key), s.Default, s.Percent}
}

// On returns the handle of the setting in r, which may be nil.
func (s FlagSetting) On(r *Runtime) FlagValue { return FlagValue{r.Key(s.Key), s.Default} }

// FractionValue is a fraction in effect.
type FractionValue struct {
	key *Key
	def Fraction
}

// Get returns the fraction of now: that of the runtime, a whole number as a
// percentage, or the default.
func (v FractionValue) Get() Fraction {
	switch e := v.key.load(); {
	case e == nil:
	case e.isFraction:
		return e.fraction
	case e.isInteger:
		return Fraction{uint32(min(e.integer, 100)), 100}
	}
	return v.def
}

// Or returns the same setting with another default.
func (v FractionValue) Or(def Fraction) FractionValue {
	v.def = def
	return v
}

// Match reports whether a random number falls into the fraction of now.
func (v FractionValue) Match(random uint64) bool { return v.Get().Match(random) }

// UintValue is a whole number in effect.
type UintValue struct {
	key      *Key
	def, max uint64
}

// Get returns the number of now; a fraction in the runtime is cut off.
func (v UintValue) Get() uint64 {
	if e := v.key.load(); e != nil && e.isInteger && e.integer <= v.max {
		return e.integer
	}
	return v.def
}

// DoubleValue is a number in effect.
type DoubleValue struct {
	key     *Key
	def     float64
	percent bool
}

// Get returns the number of now.
func (v DoubleValue) Get() float64 {
	if e := v.key.load(); e != nil && e.isNumber && (!v.percent || e.number >= 0 && e.number <= 100) {
		return e.number
	}
	return v.def
}

// FlagValue is a flag in effect.
type FlagValue struct {
	key *Key
	def bool
}

// Get returns the flag of now: only the words true and false override the default.
func (v FlagValue) Get() bool {
	if e := v.key.load(); e != nil && e.isBool {
		return e.truth
	}
	return v.def
}
