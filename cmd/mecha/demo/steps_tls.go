package demo

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// ofListeners adds up what the listeners of a sidecar have counted.
func ofListeners(s statistics, name string) (n int64) {
	for full, value := range s {
		if strings.HasPrefix(full, "listener.") && strings.HasSuffix(full, "."+name) {
			n += value
		}
	}
	return n
}

// secured counts the handshakes that sidecars have completed with clients of the mesh.
func (o observed) secured(before observed, sidecars ...string) (n int64) {
	for _, name := range sidecars {
		n += ofListeners(o[name], "ssl.handshake") - ofListeners(before[name], "ssl.handshake")
	}
	return n
}

// strict shows who is served in plain text: everybody at first, nobody in the end.
func (d *demo) strict(ctx context.Context) error {
	const requests = 20
	d.screen.step(7, "Sidecars speak mutual TLS; plain text is served, then refused")
	d.screen.did("A program outside the mesh sends %d requests in plain text to catalog-v1. Then STRICT is\nsaved in inbound.yaml (the chains for plain text go), and it sends %d more.", requests, requests)
	d.screen.expect("PERMISSIVE serves all of them, STRICT none; the frontend, which has an identity,\nis served throughout")
	outside := func() (served, refused int) {
		for range requests {
			if d.shop.plainText(ctx) {
				served++
			} else {
				refused++
			}
		}
		return served, refused
	}
	catalogs := []string{"catalog-v1", "catalog-v2"}
	before, err := d.shop.observe(ctx, catalogs...)
	if err != nil {
		return err
	}
	l := d.shop.startLoad(ctx, customers)
	defer l.end()
	served, _ := outside()
	saved := time.Now()
	if err := d.shop.folder.inbound(true); err != nil {
		return err
	}
	if err := d.shop.untilStrict(ctx); err != nil {
		return err
	}
	took := time.Since(saved)
	_, refused := outside()
	if err := l.more(ctx, requests*customers); err != nil {
		return err
	}
	l.end()
	after, err := d.shop.observe(ctx, catalogs...)
	if err != nil {
		return err
	}
	secured := after.secured(before, catalogs...)
	const unmatched = "no_filter_chain_match"
	turnedAway := ofListeners(after["catalog-v1"], unmatched) - ofListeners(before["catalog-v1"], unmatched)
	d.screen.saw("PERMISSIVE: %d of %d served in plain text", served, requests)
	d.screen.row("", "STRICT, in force after %s: %d of %d refused; catalog-v1's %s grew by %d", milliseconds(took), refused, requests, unmatched, turnedAway)
	d.screen.row("", "meanwhile customers got %s answers through the frontend, failed: %d; the catalogs'\nsidecars completed %d handshakes with spiffe://%s/ns/shop/*", number(l.count()), l.failed, secured, trustDomain)
	if l.failed > 0 {
		d.screen.row("", "the first failure: %s", l.failure)
	}
	d.screen.check(served == requests && refused == requests && turnedAway >= requests && l.failed == 0 && secured > 0,
		"%d plain requests served, then %d refused; %d of %s requests over mutual TLS failed", served, refused, l.failed, number(l.count()+l.failed))
	return nil
}

// plainText sends a request to a catalog in plain text, over a connection of its own: those
// of before go on. Any answer of the program itself will do.
func (s *shop) plainText(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.plan.at["catalog-v1"].String()+"/", nil)
	if err != nil {
		return false
	}
	rq.Close = true
	re, err := s.client.Do(rq)
	if err != nil {
		return false
	}
	_ = re.Body.Close() // its status is all that matters
	return re.StatusCode == http.StatusNotFound
}

// untilStrict waits until plain text is refused.
func (s *shop) untilStrict(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, inForceTime)
	defer cancel()
	for s.plainText(ctx) {
		if err := pause(ctx, pollTime); err != nil {
			return err
		}
	}
	return nil
}

// more waits for so many answers more. If they do not come in time, the failures tell why.
func (l *load) more(ctx context.Context, n int) error {
	began := time.Now()
	for want := l.count() + n; l.count() < want && time.Since(began) < settleTime+requestTime; {
		if err := pause(ctx, pollTime); err != nil {
			return err
		}
	}
	return nil
}

// rotateTime is the longest wait for certificates to be replaced.
const rotateTime = 15 * time.Second

// rotate shows that certificates are replaced while requests flow.
func (d *demo) rotate(ctx context.Context) error {
	d.screen.step(8, "Certificates are replaced while requests flow")
	d.screen.did("Certificates live for %s and are renewed half way, each with a new key. %d customers ask\nfor /products until the frontend and both catalogs have another one.", certificateTTL, customers)
	d.screen.expect("new handshakes use the new certificates, and no request fails")
	sidecars := []string{"frontend", "catalog-v1", "catalog-v2"}
	before, err := d.shop.observe(ctx, sidecars...)
	if err != nil {
		return err
	}
	l := d.shop.startLoad(ctx, customers)
	defer l.end()
	const renewals = "sds.default.update_success"
	replaced := func(o observed) bool {
		for _, name := range sidecars {
			if o.since(before, name, renewals) < 1 {
				return false
			}
		}
		return true
	}
	after := before
	for began := time.Now(); !replaced(after) && time.Since(began) < rotateTime; {
		if err := pause(ctx, 10*pollTime); err != nil {
			return err
		}
		if after, err = d.shop.observe(ctx, sidecars...); err != nil {
			return err
		}
	}
	if err := l.more(ctx, 100*customers); err != nil { // so many that every connection is another one
		return err
	}
	l.end()
	took := time.Since(l.began)
	if after, err = d.shop.observe(ctx, sidecars...); err != nil {
		return err
	}
	secured := after.secured(before, sidecars[1:]...)
	d.screen.saw("%s: sds.default.update_success grew by %d (frontend), %d and %d (catalogs)", milliseconds(took),
		after.since(before, sidecars[0], renewals), after.since(before, sidecars[1], renewals), after.since(before, sidecars[2], renewals))
	d.screen.row("", "%s requests, failed: %d; handshakes between the sidecars: %d", number(l.count()+l.failed), l.failed, secured)
	if l.failed > 0 {
		d.screen.row("", "the first failure: %s", l.failure)
	}
	d.screen.check(replaced(after) && l.failed == 0 && secured > 0, "3 certificates replaced, %d of %s requests failed", l.failed, number(l.count()+l.failed))
	return nil
}
