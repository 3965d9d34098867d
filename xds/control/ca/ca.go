// Package ca is a small certificate authority for workloads: it signs short-lived
// X.509 certificates whose identity is a SPIFFE ID, and replaces its own root while
// everybody goes on trusting everybody.
//
// A root goes through three times. First it is trusted but signs nothing, so that all
// workloads know it before anyone meets it. Then it signs. Then its key is destroyed and
// it is trusted until the last certificate that it signed has expired. The state is one
// file (see store.go), and what it means at a moment is a function of that file and the
// clock alone.
//
// What is not here: who may have which identity, and how certificates get to workloads;
// both are in xds/control. Formats are those of RFC 5280 and of the SPIFFE standard
// "X509-SVID", and only the standard library's crypto is used.
package ca

import (
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Times that are not configured.
const (
	// skew is how far the clocks of two machines may differ.
	skew = time.Minute
	// minTTL is the shortest life of a certificate: below, rotation would be all there is.
	minTTL = time.Second
	// maxTTL is the longest: a stolen key is of use for that long.
	maxTTL = 7 * 24 * time.Hour
)

// Options are what an Authority is made with. Dir and TrustDomain are required.
type Options struct {
	// Dir is where roots are kept, for the owner alone (0700, files 0600). It is made.
	Dir string
	// TrustDomain is the host part of all identities, such as "cluster.local". It is that
	// of the stored roots, or Open fails.
	TrustDomain string
	// TTL is the life of a workload's certificate; 0 is 6 h.
	TTL time.Duration
	// RootTTL is the life of a root; 0 is a year.
	RootTTL time.Duration
	// Overlap is how long a new root is known before it signs; 0 is as long as the longest
	// certificate lives. Who is away from the control plane for longer than this while the root
	// changes does not know the new one.
	Overlap time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Log may be nil: nothing is logged.
	Log *slog.Logger
}

// Authority signs certificates. It is safe for concurrent use.
type Authority struct {
	o   Options
	log *slog.Logger

	mu    sync.Mutex
	roots []*root // oldest first, at least one after Open
	state string  // fingerprint when Advance was called last
}

// Open reads the roots, makes the first one if there is none, and does what is due.
func Open(o Options) (*Authority, error) {
	if err := CheckTrustDomain(o.TrustDomain); err != nil {
		return nil, err
	}
	for d, def := range map[*time.Duration]time.Duration{&o.TTL: 6 * time.Hour, &o.RootTTL: 365 * 24 * time.Hour} {
		if *d == 0 {
			*d = def
		}
	}
	switch {
	case o.TTL < minTTL || o.TTL > maxTTL:
		return nil, fmt.Errorf("ca: certificates that live for %v: between %v and %v is possible", o.TTL, minTTL, maxTTL)
	case o.Overlap < 0:
		return nil, fmt.Errorf("ca: an overlap of %v", o.Overlap)
	case o.RootTTL < 10*(o.TTL+max(o.TTL, o.Overlap)):
		return nil, fmt.Errorf("ca: a root that lives for %v: at least ten times as long as certificates and the overlap, %v", o.RootTTL, 10*(o.TTL+max(o.TTL, o.Overlap)))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Authority{o: o, log: o.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	_, err := a.Advance()
	return a, err
}

// Advance reads the roots again and does what is due: a root that is old is followed by
// a new one, one that is followed signs no more, one that nobody needs is forgotten. It
// reports whether workloads have to be told: who is trusted, or who signs, has changed.
func (a *Authority) Advance() (changed bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.update(false)
}

// RotateRoot begins to replace the root that signs: the next one is trusted at once, and
// signs when the overlap is over.
func (a *Authority) RotateRoot() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.update(true)
	return err
}

// update is Advance, and with rotate also begins to replace the root. The lock is held.
func (a *Authority) update(rotate bool) (changed bool, err error) {
	unlock, err := lockDir(a.o.Dir)
	if err != nil {
		return false, err
	}
	defer unlock()
	stored, err := readRoots(a.o.Dir)
	if err != nil {
		return false, err
	}
	for _, r := range stored {
		if id := idOf(r.cert); id != "spiffe://"+a.o.TrustDomain {
			return false, fmt.Errorf("ca: %s holds a root of %q, not of the trust domain %q", a.o.Dir, id, a.o.TrustDomain)
		}
	}
	now := a.o.Now()
	if n := len(stored); rotate && n > 0 && now.Before(stored[n-1].signsFrom) {
		return false, errors.New("ca: the root is being replaced already")
	}
	roots, dirty, err := a.due(stored, now, rotate)
	if err != nil {
		return false, err
	}
	if dirty {
		if err := writeRoots(a.o.Dir, roots); err != nil {
			return false, err
		}
	}
	state := fingerprint(roots, now)
	changed = state != a.state
	a.roots, a.state = roots, state
	return changed, nil
}

// fingerprint is what workloads have to know of roots: whom to trust and who signs.
func fingerprint(roots []*root, now time.Time) string {
	out := ""
	for _, r := range roots {
		out += r.cert.SerialNumber.String() + " "
	}
	return out + "by " + signer(roots, now).cert.SerialNumber.String()
}

// NextChange is when Advance should be called again at the latest.
func (a *Authority) NextChange() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.o.Now()
	next := renewAt(a.roots[len(a.roots)-1])
	for i, r := range a.roots[1:] {
		for _, t := range []time.Time{r.signsFrom, a.roots[i].trustedUntil(r)} {
			if t.After(now) && t.Before(next) {
				next = t
			}
		}
	}
	return next
}

// SignsFrom is when the newest root signs for the first time, or did.
func (a *Authority) SignsFrom() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.roots[len(a.roots)-1].signsFrom
}

// Bundle returns the certificates of all roots that are trusted now, in PEM, oldest first.
func (a *Authority) Bundle() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []byte
	for _, r := range a.roots {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})...)
	}
	return out
}
