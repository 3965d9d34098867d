package secret

import (
	"crypto/x509"
	"maps"
	"slices"
	"time"
)

// InUse is what one TLS context has at present.
type InUse struct {
	Certificates []*Certificate
	Validation   *Validation // nil if nothing is checked
}

// Anchor is a certificate that is trusted, and the file it is from, "" for inline.
type Anchor struct {
	*x509.Certificate
	Path string
}

// Anchors returns what the context trusts, apart from what the machine does: trusted_ca in
// its order, or the bundles of trust domains in the order of their names.
func (u InUse) Anchors() (out []Anchor) {
	v := u.Validation
	if v == nil {
		return nil
	}
	if v.Domains == nil {
		for _, c := range v.CAs {
			out = append(out, Anchor{c, v.CAPath})
		}
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(v.Domains)) {
		d := v.Domains[name]
		for _, c := range d.CAs {
			out = append(out, Anchor{c, d.Path})
		}
	}
	return out
}

// Expiry returns when the first of the leaves and anchors expires, and when the first
// OCSP response does; zero where there is none.
func (u InUse) Expiry() (certificate, staple time.Time) {
	for _, a := range u.Anchors() {
		certificate = First(certificate, a.NotAfter)
	}
	for _, c := range u.Certificates {
		certificate = First(certificate, c.Leaf().NotAfter)
		if c.Staple != nil {
			staple = First(staple, c.Staple.NextUpdate)
		}
	}
	return certificate, staple
}

// First returns the earlier of two times, of which the zero time is none.
func First(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// DaysUntil is how many whole days there are from now to then, 0 if that has passed.
func DaysUntil(then, now time.Time) int64 {
	const day = 24 * 60 * 60 // a Duration holds 292 years only
	return max((then.Unix()-now.Unix())/day, 0)
}
