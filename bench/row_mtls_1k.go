package main

func mtlsSmall() row {
	return row{
		name:     "mtls-1k",
		about:    "TLS from clients, mutual TLS to hosts, HTTP/1.1, 64 connections that stay, 1 KiB answers, saturated",
		config:   "mtls",
		workers:  1,
		exchange: httpGet("/1k"),
		tls:      tlsKeep,
		conns:    64,
		target:   0.37,
		haproxy:  0.37,
	}
}
