package demo

import (
	"context"
	"net/http"
	"strings"
)

// stock is what the demo reads of the frontend's answer: the answer of the
// inventory, and how many bytes the frontend sent and got.
type stock struct {
	Stock    string `json:"stock"`
	Sent     int64  `json:"bytes_sent"`
	Received int64  `json:"bytes_received"`
}

// tcp shows a service that does not speak HTTP.
func (d *demo) tcp(ctx context.Context) error {
	const talks = 60
	d.screen.step(5, "A TCP service with a protocol of its own")
	if d.shop.plan.captured {
		d.screen.did("For %d customers the frontend opens inventory.shop:7000 and asks in one line, such\nas %q.", talks, "STOCK apple")
	} else {
		d.screen.did("For %d customers the frontend opens a connection to %s, where its\nsidecar listens for the inventory, and asks in one line, such as %q.", talks, d.shop.plan.outbound["inventory"], "STOCK apple")
	}
	d.screen.expect("the sidecars on both sides count the connections and bytes that the program counts")
	sidecars := []string{"frontend", "inventory"}
	before, err := d.shop.observe(ctx, sidecars...)
	if err != nil {
		return err
	}
	var sent, received, good int64
	example := ""
	items := [...]string{"apple", "pear", "plum", "quince"}
	for i := range talks {
		var a stock
		item := items[i%len(items)]
		status, err := d.shop.call(ctx, http.MethodGet, d.shop.url("/stock/"+item), &a)
		if err != nil {
			return err
		}
		if status == http.StatusOK && strings.HasPrefix(a.Stock, item+" ") {
			good++
			example = a.Stock
		}
		sent, received = sent+a.Sent, received+a.Received
	}
	seen := func(o observed, sidecar, prefix string) (talks, in, out int64) {
		return o.since(before, sidecar, "tcp."+prefix+".downstream_cx_total"),
			o.since(before, sidecar, "tcp."+prefix+".downstream_cx_rx_bytes_total"),
			o.since(before, sidecar, "tcp."+prefix+".downstream_cx_tx_bytes_total")
	}
	same := func(o observed, sidecar, prefix string) bool {
		n, in, out := seen(o, sidecar, prefix)
		return n == talks && in == sent && out == received
	}
	both := func(o observed) bool {
		return same(o, "frontend", "inventory") && same(o, "inventory", "inbound")
	}
	after, err := d.shop.settle(ctx, sidecars, both)
	if err != nil {
		return err
	}
	d.screen.saw("the program: %d answers like %q, %s bytes sent, %s received", good, example, number(sent), number(received))
	for _, side := range [...]struct{ sidecar, prefix, words string }{
		{"frontend", "inventory", "frontend's sidecar:  tcp.inventory.downstream_cx_total"},
		{"inventory", "inbound", "inventory's sidecar: tcp.inbound.downstream_cx_total"},
	} {
		n, in, out := seen(after, side.sidecar, side.prefix)
		d.screen.row("", "%s %d, rx_bytes %s, tx_bytes %s", side.words, n, number(in), number(out))
	}
	d.screen.check(good == talks && both(after), "%d connections, %s bytes one way and %s the other, the same everywhere", talks, number(sent), number(received))
	return nil
}

// receipt is what the demo reads of the bank's answer.
type receipt struct {
	Calls int64  `json:"calls"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// exclusion shows a port that capture leaves alone, and for comparison one of
// the same program that it doesn't.
func (d *demo) exclusion(ctx context.Context) error {
	const payments = 20
	d.screen.step(6, "An excluded port is left alone")
	if !d.shop.plan.captured {
		d.screen.skip("not shown: without capture there is nothing to exclude a port from")
		return nil
	}
	d.screen.did("The bank is outside the mesh, without a sidecar. %d payments go to bank.shop:%d, which\nthe frontend's capture excludes, and %d to its port %d, which it does not.", payments, bankPort, payments, backupPort)
	d.screen.expect("the bank gets all %d; the frontend's sidecar sees only the second %d", 2*payments, payments)
	pay := func(path string) (last receipt, seen, passed int64, err error) {
		before, err := d.shop.observe(ctx, "frontend")
		if err != nil {
			return last, 0, 0, err
		}
		for range payments {
			if _, err := d.shop.call(ctx, http.MethodPost, d.shop.url(path), &last); err != nil {
				return last, 0, 0, err
			}
		}
		count := func(o observed) (seen, passed int64) {
			return outboundConnections(o["frontend"]) - outboundConnections(before["frontend"]),
				o.since(before, "frontend", "tcp.passthrough.downstream_cx_total")
		}
		want := int64(0)
		if path != "/pay" {
			want = payments
		}
		after, err := d.shop.settle(ctx, []string{"frontend"}, func(o observed) bool { s, _ := count(o); return s == want })
		seen, passed = count(after)
		return last, seen, passed, err
	}
	first, bypassed, _, err := pay("/pay")
	if err != nil {
		return err
	}
	second, captured, passed, err := pay("/pay?bank=backup")
	if err != nil {
		return err
	}
	d.screen.saw("port %d: the bank counted %d payments; outbound connections the sidecar saw: %d", bankPort, first.Calls, bypassed)
	d.screen.row("", "port %d: the bank counted %d more; outbound connections the sidecar saw: %d", backupPort, second.Calls-first.Calls, captured)
	d.screen.row("", "tcp.passthrough.downstream_cx_total grew by %d: no listener is for them, so they go\non unchanged", passed)
	d.screen.check(first.Calls == payments && second.Calls == 2*payments && bypassed == 0 && captured == payments && passed == payments,
		"%d of %d connections bypassed the sidecar, %d of %d went through it", first.Calls-bypassed, payments, captured, payments)
	return nil
}

// outboundConnections counts everything that capture has handed to a sidecar's
// outbound side.
func outboundConnections(s statistics) int64 {
	return s["http.outbound.downstream_cx_total"] + s["tcp.inventory.downstream_cx_total"] + s["tcp.passthrough.downstream_cx_total"]
}
