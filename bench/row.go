package main

import "fmt"

// row is one workload: a line of the table.
type row struct {
	name    string
	about   string
	config  string // which configuration template: http, tcp, h2, tls or mtls
	workers int

	exchange exchange     // what one request and its answer are
	mux      *muxExchange // the same over HTTP/2; nil: exchange
	tls      tlsUse       // exchange goes over TLS
	certs    *certs       // with tls: of the run
	conns    int          // connections to each proxy
	streams  int          // with mux: at once on each connection
	load     load         // in which order the proxies get their requests
	rate     int          // with paced: requests a second to each proxy

	target  float64 // of the ratio to Envoy
	haproxy float64 // HAProxy's ratio to Envoy where the target was set
	atLeast bool    // the ratio is of bytes per CPU-second: higher is better
	p99Over float64 // p99 latency over HAProxy's, at most; 0: no target
}

// load says how requests are handed to the proxies of a pair.
type load int

const (
	saturated load = iota // every connection asks again as soon as it is answered
	turns                 // all connections ask one proxy; when it answered them, the next one's turn
	paced                 // at a fixed rate, whatever comes back
	once                  // every connection asks once and stays
)

// rows is every workload in the order of the table.
func rows() []row {
	return []row{
		h1Small(),
		h1Paced(),
		h1Post(),
		h1Large(),
		tcpBulk(),
		tcpPingPong(),
		h1SmallTwoWorkers(),
		h2Small(),
		grpcUnary(),
		mtlsSmall(),
		tlsNew(),
		tlsHandshake(),
	}
}

// memoryRow is the name of the row that measures memory and idle CPU.
const memoryRow = "memory"

func rowNames() []string {
	var names []string
	for _, r := range rows() {
		names = append(names, r.name)
	}
	return append(names, memoryRow)
}

// wanted picks rows by name.
func wanted(names []string) (picked []row, memory bool, err error) {
	if len(names) == 1 && names[0] == "all" {
		return rows(), true, nil
	}
	for _, n := range names {
		if n == memoryRow {
			memory = true
			continue
		}
		found := false
		for _, r := range rows() {
			if r.name == n {
				picked, found = append(picked, r), true
			}
		}
		if !found {
			return nil, false, fmt.Errorf("no row %q: there are %q", n, rowNames())
		}
	}
	return picked, memory, nil
}
