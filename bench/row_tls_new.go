package main

func tlsNew() row {
	return row{
		name:     "tls-new",
		about:    "new connections over TLS that resume a session, 16 at a time, one request of 1 KiB each",
		config:   "tls",
		workers:  1,
		exchange: httpGet("/1k"),
		tls:      tlsResume,
		conns:    16,
		target:   1.0,
		haproxy:  1.3,
	}
}
