package main

func h1Post() row {
	return row{
		name:     "h1-post16k",
		about:    "HTTP/1.1, 64 connections, 16 KiB request bodies, saturated",
		config:   "http",
		workers:  1,
		exchange: httpPost(16 << 10),
		conns:    64,
		load:     saturated,
		target:   0.30,
		haproxy:  0.36,
	}
}
