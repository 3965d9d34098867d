package main

func tcpPingPong() row {
	return row{
		name:     "tcp-pp",
		about:    "TCP, 64 connections, 64-byte ping-pong, saturated",
		config:   "tcp",
		workers:  1,
		exchange: tcpFetch(pingSize),
		conns:    64,
		load:     saturated,
		target:   0.65,
		haproxy:  0.61,
	}
}
