package demo

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

// steps are what the demo shows, in order.
func (d *demo) steps() []func(context.Context) error {
	return []func(context.Context) error{d.traffic, d.split, d.retry, d.timeout, d.tcp, d.exclusion, d.strict, d.rotate}
}

// milliseconds is a duration for people.
func milliseconds(t time.Duration) string {
	if t >= time.Second {
		return fmt.Sprintf("%.2f s", t.Seconds())
	}
	return fmt.Sprintf("%d ms", t.Milliseconds())
}

// traffic shows that requests go through the sidecars, every one of them.
func (d *demo) traffic(ctx context.Context) error {
	const requests = 200
	if d.shop.plan.captured {
		d.screen.step(1, "Traffic is captured: the programs know nothing of it")
		d.screen.did("%d customers ask the frontend for /products. For each, the frontend opens\nhttp://catalog.shop:8080, which is %s, an address that no machine has.", requests, d.shop.plan.names["catalog.shop"])
	} else {
		d.screen.step(1, "Traffic goes through the sidecars (by address, not by capture)")
		d.screen.did("%d customers ask the frontend for /products. For each, the frontend asks the\ncatalog at http://%s, where its sidecar listens.", requests, d.shop.plan.outbound["catalog"])
	}
	d.screen.expect("the program's count and that of every sidecar on the way are the same: %d", requests)
	sidecars := []string{"frontend", "catalog-v1", "catalog-v2"}
	const call = "OUTBOUND GET http://"
	before, err := d.shop.observe(ctx, sidecars...)
	if err != nil {
		return err
	}
	lines, err := d.shop.logLines(sidecarLog("frontend"), call)
	if err != nil {
		return err
	}
	logged := -len(lines)
	served := map[string]int64{}
	good, bad := 0, ""
	for range requests {
		var p product
		status, err := d.shop.call(ctx, http.MethodGet, d.shop.url("/products"), &p)
		if err != nil {
			return err
		}
		if status == http.StatusOK {
			good++
			served[p.Version] = p.Served
		} else {
			bad = fmt.Sprintf(", one of the others %d", status)
		}
	}
	const rq = "downstream_rq_total"
	count := func(o observed) (in, out, arrived int64) {
		return o.since(before, "frontend", "http.inbound."+rq), o.since(before, "frontend", "http.outbound."+rq),
			o.since(before, "catalog-v1", "http.inbound."+rq) + o.since(before, "catalog-v2", "http.inbound."+rq)
	}
	after, err := d.shop.settle(ctx, sidecars, func(o observed) bool {
		in, out, arrived := count(o)
		lines, err = d.shop.logLines(sidecarLog("frontend"), call)
		return in == requests && out == requests && arrived == requests && logged+len(lines) >= requests
	})
	if err != nil {
		return err
	}
	in, out, arrived := count(after)
	logged += len(lines)
	programs := served["v1"] + served["v2"]
	d.screen.saw("%d answers 200%s; the catalog programs counted %d", good, bad, programs)
	d.screen.row("", "frontend's sidecar: %d requests in, %d out; the catalogs' sidecars: %d in", in, out, arrived)
	if len(lines) > 0 {
		d.screen.row("", "frontend's access log: %d lines, the last one:\n%s", logged, lines[len(lines)-1])
	}
	d.screen.check(good == requests && in == requests && out == requests && arrived == requests && programs == requests && logged == requests,
		"%s of %d requests seen by the program and by all sidecars on the way", number(min(in, out, arrived)), requests)
	return nil
}

// Between edits the customers ask for this long, and at least this often.
const (
	splitTime     = 2 * time.Second
	splitTimeMost = 8 * time.Second
	splitRequests = 600
	customers     = 8
)

// split changes the weights of two versions while requests flow.
func (d *demo) split(ctx context.Context) error {
	d.screen.step(2, "A 90/10 split becomes 50/50 while requests flow")
	d.screen.did("%d customers ask for /products without a pause", customers)
	l := d.shop.startLoad(ctx, customers)
	defer l.end()
	if err := l.flow(ctx, 0); err != nil {
		return err
	}
	edited := time.Since(l.began)
	lines, took, err := d.shop.change(ctx, func(r *routing) { r.V1, r.V2 = 50, 50 })
	if err != nil {
		return err
	}
	d.screen.row("", "after %s this is saved in routes.yaml:\n%s", milliseconds(edited), strings.Join(lines, "\n"))
	d.screen.expect("version 2 answers 10 %% before and 50 %% after, and no request fails")
	inForce := time.Since(l.began)
	if err := l.flow(ctx, l.count()); err != nil {
		return err
	}
	l.end()
	before, after := l.between(0, edited), l.between(inForce, time.Hour)
	show := func(label, when string, c share) {
		d.screen.row(label, "%-6s  %6s requests   v1 %5.1f %%   v2 %5.1f %%", when, number(c.total()), 100*(1-c.part()), 100*c.part())
	}
	show("measured", "before", before)
	show("", "after", after)
	d.screen.row("", "in force %s after the file was saved; failed: %d of %s", milliseconds(took), l.failed, number(l.count()+l.failed))
	if l.failed > 0 {
		d.screen.row("", "the first failure: %s", l.failure)
	}
	d.screen.check(l.failed == 0 && near(before, 0.10) && near(after, 0.50),
		"%.0f %% became %.0f %% over xDS, %d failed requests", 100*before.part(), 100*after.part(), l.failed)
	return nil
}

// flow waits while the customers ask, for a while and for enough requests to
// tell a share.
func (l *load) flow(ctx context.Context, already int) error {
	began := time.Now()
	for {
		if err := pause(ctx, pollTime); err != nil {
			return err
		}
		t := time.Since(began)
		if t >= splitTime && (l.count()-already >= splitRequests || t >= splitTimeMost) {
			return nil
		}
	}
}

// near says whether version 2 got its share: within three points, or five
// standard deviations of as many throws of a fair die.
func near(c share, want float64) bool {
	if c.total() < 100 {
		return false
	}
	sigma := math.Sqrt(want * (1 - want) / float64(c.total()))
	return math.Abs(c.part()-want) <= max(0.03, 5*sigma)
}

// order is what the demo reads of an answer of the orders.
type order struct {
	Attempts int64 `json:"attempts"`
	Failed   int64 `json:"failed"`
}

// retry heals a service that fails every third request.
func (d *demo) retry(ctx context.Context) error {
	const few, many = 30, 60
	d.screen.step(3, "Retries heal a service that fails")
	d.screen.did("the orders service answers one of three requests with 503; %d orders are placed", few)
	var last order
	place := func(n int) (failed int, err error) {
		for range n {
			status, err := d.shop.call(ctx, http.MethodPost, d.shop.url("/orders"), &last)
			if err != nil {
				return failed, err
			}
			if status != http.StatusOK {
				failed++
			}
		}
		return failed, nil
	}
	without, err := place(few)
	if err != nil {
		return err
	}
	before, err := d.shop.observe(ctx, "frontend")
	if err != nil {
		return err
	}
	lines, _, err := d.shop.change(ctx, func(r *routing) { r.Retry = true })
	if err != nil {
		return err
	}
	d.screen.row("", "this is added to routes.yaml, then %d more are placed:\n%s", many, strings.Join(lines, "\n"))
	d.screen.expect("customers see %d failures before, none after", few/3)
	with, err := place(many)
	if err != nil {
		return err
	}
	refused := last.Failed - int64(without) // without retries, customers saw them all
	const retries, healed = "cluster.orders.upstream_rq_retry", "cluster.orders.upstream_rq_retry_success"
	after, err := d.shop.settle(ctx, []string{"frontend"}, func(o observed) bool { return o.since(before, "frontend", healed) == refused })
	if err != nil {
		return err
	}
	tried, good := after.since(before, "frontend", retries), after.since(before, "frontend", healed)
	d.screen.saw("without retries: %d of %d orders failed; with them: %d of %d", without, few, with, many)
	d.screen.row("", "the service refused %d of %d attempts\nupstream_rq_retry %d, upstream_rq_retry_success %d", refused, last.Attempts-few, tried, good)
	d.screen.check(without == few/3 && with == 0 && refused > 0 && tried == refused && good == refused,
		"%d refusals, %d retries, %d failed orders", refused, tried, with)
	return nil
}

// reportLimit is the timeout that step 4 sets.
const reportLimit = 300 * time.Millisecond

// timeout cuts a slow answer.
func (d *demo) timeout(ctx context.Context) error {
	const requests = 5
	d.screen.step(4, "A timeout cuts a slow answer")
	ask := func() (status int, took time.Duration, err error) {
		began := time.Now()
		status, err = d.shop.call(ctx, http.MethodGet, d.shop.url("/reports"), nil)
		return status, time.Since(began), err
	}
	d.screen.did("a customer asks for a report, which takes %s", slowReport)
	slowStatus, slow, err := ask()
	if err != nil {
		return err
	}
	before, err := d.shop.observe(ctx, "frontend")
	if err != nil {
		return err
	}
	lines, _, err := d.shop.change(ctx, func(r *routing) { r.Timeout = "0.3s" })
	if err != nil {
		return err
	}
	d.screen.row("", "this is added to routes.yaml, then %d more ask:\n%s", requests, strings.Join(lines, "\n"))
	d.screen.expect("200 after %s before; 504 after %s since", slowReport, milliseconds(reportLimit))
	cut, shortest, longest := 0, time.Hour, time.Duration(0)
	for range requests {
		status, took, err := ask()
		if err != nil {
			return err
		}
		if status == http.StatusGatewayTimeout {
			cut++
		}
		shortest, longest = min(shortest, took), max(longest, took)
	}
	const timeouts = "cluster.reports.upstream_rq_timeout"
	after, err := d.shop.settle(ctx, []string{"frontend"}, func(o observed) bool { return o.since(before, "frontend", timeouts) == requests })
	if err != nil {
		return err
	}
	counted := after.since(before, "frontend", timeouts)
	d.screen.saw("before: %d after %s; since: %d of %d answered 504, after %s to %s", slowStatus, milliseconds(slow), cut, requests, milliseconds(shortest), milliseconds(longest))
	d.screen.row("", "upstream_rq_timeout %d", counted)
	d.screen.check(slowStatus == http.StatusOK && slow >= time.Second && cut == requests && counted == requests &&
		shortest >= reportLimit && longest < slow, "%d slow answers cut at %s", cut, milliseconds(shortest))
	return nil
}
