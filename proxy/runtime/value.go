package runtime

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
)

// Key is the handle of a key: its value changes with the layers. A nil *Key has no value.
type Key struct{ value atomic.Pointer[entry] }

// entry is a value in effect, in each type that its text can be read as. Immutable.
type entry struct {
	raw      string
	number   float64
	integer  uint64
	fraction Fraction

	isNumber, isInteger, isBool, isFraction, truth bool
}

func (k *Key) load() *entry {
	if k == nil {
		return nil
	}
	return k.value.Load()
}

// Fraction is a share of all streams (FractionalPercent).
type Fraction struct{ Numerator, Denominator uint32 }

// Match reports whether a random number falls into the fraction. The same number
// always gives the same answer.
func (f Fraction) Match(random uint64) bool {
	if f.Numerator >= f.Denominator {
		return true
	}
	return random%uint64(f.Denominator) < uint64(f.Numerator)
}

// parse reads a text as what it can be.
func parse(raw string) *entry {
	e := &entry{raw: raw}
	switch strings.ToLower(raw) {
	case "true":
		e.isBool, e.truth = true, true
		return e
	case "false":
		e.isBool = true
		return e
	}
	text := strings.TrimSpace(raw)
	if n, err := strconv.ParseFloat(text, 64); err == nil && n-n == 0 && !strings.ContainsAny(text, "xX_") { // as Envoy: no hexadecimal
		e.number, e.isNumber = n, true
		if exact, err := strconv.ParseUint(text, 10, 64); err == nil {
			e.integer, e.isInteger = exact, true
		} else if n >= 0 && n < math.MaxUint64 {
			e.integer, e.isInteger = uint64(n), true
		}
		return e
	}
	e.fraction, e.isFraction = parseFraction(text)
	return e
}

// parseFraction reads a FractionalPercent, in JSON or as the two lines of YAML that a
// file holds.
func parseFraction(text string) (f Fraction, ok bool) {
	var pb struct {
		Numerator   uint32 `json:"numerator"`
		Denominator any    `json:"denominator"`
	}
	if strings.HasPrefix(text, "{") {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.DisallowUnknownFields()
		if d.Decode(&pb) != nil {
			return f, false
		}
	} else if !fractionLines(text, &pb.Numerator, &pb.Denominator) {
		return f, false
	}
	f.Numerator = pb.Numerator
	switch pb.Denominator {
	case nil, "HUNDRED", 0.0:
		f.Denominator = 100
	case "TEN_THOUSAND", 1.0:
		f.Denominator = 10_000
	case "MILLION", 2.0:
		f.Denominator = 1_000_000
	default:
		return f, false
	}
	return f, true
}

// fractionLines reads "numerator: N" and "denominator: NAME", each on a line.
func fractionLines(text string, numerator *uint32, denominator *any) (ok bool) {
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found {
			return false
		}
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		switch key {
		case "numerator":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return false
			}
			*numerator = uint32(n)
		case "denominator":
			*denominator = value
		default:
			return false
		}
		ok = true
	}
	return ok
}
