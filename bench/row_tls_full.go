package main

func tlsHandshake() row {
	return row{
		name:     "tls-full",
		about:    "new connections over TLS with a full handshake (ECDSA P-256, X25519), 16 at a time, one request of 1 KiB each",
		config:   "tls",
		workers:  1,
		exchange: httpGet("/1k"),
		tls:      tlsFull,
		conns:    16,
		target:   1.2,
		haproxy:  1.3,
	}
}
