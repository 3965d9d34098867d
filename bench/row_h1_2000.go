package main

func h1Paced() row {
	return row{
		name:     "h1-2000",
		about:    "HTTP/1.1, 64 connections, 1 KiB answers at 2,000 requests a second",
		config:   "http",
		workers:  1,
		exchange: httpGet("/1k"),
		conns:    64,
		load:     paced,
		rate:     2000,
		target:   0.60,
		haproxy:  0.57,
		p99Over:  1.2,
	}
}
