package main

func h1Small() row {
	return row{
		name:     "h1-1k",
		about:    "HTTP/1.1, 64 connections, 1 KiB answers, saturated",
		config:   "http",
		workers:  1,
		exchange: httpGet("/1k"),
		conns:    64,
		load:     saturated,
		target:   0.25,
		haproxy:  0.23,
	}
}

func h1SmallTwoWorkers() row {
	r := h1Small()
	r.name, r.about = "h1-1k-2w", r.about+", two workers"
	r.workers, r.target, r.haproxy = 2, 0.32, 0.29
	return r
}
