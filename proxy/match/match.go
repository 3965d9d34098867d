// Package match holds compiled matchers: strings, header fields, query parameters,
// paths, address ranges, fractions. They are made once from configuration, immutable,
// used by all streams at once, and match without an allocation.
//
// Protobuf is not here (see filter/fromproto), nor is what a match leads to (package
// route and the filters).
package match

// Fraction is a share of all streams (FractionalPercent, RuntimeFractionalPercent).
type Fraction struct{ Numerator, Denominator uint32 }

// Match reports whether a random number falls into the fraction. The same number
// always gives the same answer.
func (f Fraction) Match(random uint64) bool {
	if f.Numerator >= f.Denominator {
		return true
	}
	return random%uint64(f.Denominator) < uint64(f.Numerator)
}
