package main

func tcpBulk() row {
	return row{
		name:     "tcp-bulk",
		about:    "TCP, 4 connections, one way, 4 MiB at a time, by turns; bytes per CPU-second",
		config:   "tcp",
		workers:  1,
		exchange: tcpFetch(4 << 20),
		conns:    4,
		load:     turns,
		target:   2.0,
		haproxy:  0.6,
		atLeast:  true,
	}
}
