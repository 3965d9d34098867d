package main

func h1Large() row {
	return row{
		name:     "h1-1m",
		about:    "HTTP/1.1, 8 connections, 1 MiB answers, by turns; bytes per CPU-second",
		config:   "http",
		workers:  1,
		exchange: httpGet("/1m"),
		conns:    8,
		load:     turns,
		target:   1.4,
		haproxy:  0.8,
		atLeast:  true,
	}
}
