package secret

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestExpiry(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	expires := func(d time.Duration) *x509.Certificate { return &x509.Certificate{NotAfter: now.Add(d)} }
	own := &Certificate{Chain: []*x509.Certificate{expires(50 * time.Hour), expires(time.Hour)}}
	if c, o := (InUse{}).Expiry(); !c.IsZero() || !o.IsZero() {
		t.Errorf("nothing expires: %v %v", c, o)
	}
	u := InUse{Certificates: []*Certificate{own}, Validation: &Validation{CAs: []*x509.Certificate{expires(90 * time.Hour)}}}
	if c, o := u.Expiry(); !c.Equal(now.Add(50*time.Hour)) || !o.IsZero() {
		t.Errorf("the leaf: %v %v", c, o)
	}
	own.Staple = &Staple{NextUpdate: now.Add(time.Minute)}
	u.Validation = &Validation{Domains: map[string]*Domain{
		"b": {CAs: []*x509.Certificate{expires(99 * time.Hour)}}, "a": {CAs: []*x509.Certificate{expires(30 * time.Hour)}, Path: "/a"},
	}}
	if c, o := u.Expiry(); !c.Equal(now.Add(30*time.Hour)) || !o.Equal(now.Add(time.Minute)) {
		t.Errorf("a trust domain: %v %v", c, o)
	}
	if a := u.Anchors(); len(a) != 2 || a[0].Path != "/a" {
		t.Errorf("anchors %v", a)
	}
	for d, days := range map[time.Duration]int64{-time.Hour: 0, 23 * time.Hour: 0, 24 * time.Hour: 1, 47 * time.Hour: 1} {
		if got := DaysUntil(now.Add(d), now); got != days {
			t.Errorf("%v is %d days", d, got)
		}
	}
	if got := DaysUntil(now.AddDate(1000, 0, 0), now); got < 365_000 {
		t.Errorf("1000 years are %d days", got)
	}
}
