package main

func h2Small() row {
	return row{
		name:    "h2-1k",
		about:   "HTTP/2 in the clear on both sides, 8 connections of 32 streams, 1 KiB answers, saturated",
		config:  "h2",
		workers: 1,
		mux:     h2Get("/1k"),
		conns:   8,
		streams: 32,
		target:  0.30,
		haproxy: 0.16,
	}
}
