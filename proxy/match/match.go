// Package match holds compiled matchers: strings, header fields, query parameters,
// paths, address ranges, fractions. They are made once from configuration, immutable,
// used by all streams at once, and match without an allocation.
//
// Protobuf is not here (see filter/fromproto), nor is what a match leads to (package
// route and the filters).
package match

import "github.com/mecha-mesh/mecha/proxy/runtime"

// Fraction is a share of all streams (FractionalPercent).
type Fraction = runtime.Fraction
