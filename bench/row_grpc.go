package main

func grpcUnary() row {
	return row{
		name:    "grpc",
		about:   "unary gRPC, 8 connections of 32 streams, messages of 64 bytes, saturated",
		config:  "h2",
		workers: 1,
		mux:     grpcCall(),
		conns:   8,
		streams: 32,
		target:  0.30,
		haproxy: 0.20,
	}
}
