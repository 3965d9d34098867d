package main

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// catalogAnswer is one answer of the catalog. Served is how many this program
// has given, this one included.
type catalogAnswer struct {
	Version  string   `json:"version"`
	Served   int64    `json:"served"`
	Products []string `json:"products"`
}

func newCatalog(getenv env) (server, error) {
	version := getenv("VERSION", "v1")
	products := []string{"apple", "pear", "plum"}
	if version != "v1" {
		products = append(products, "quince")
	}
	var served atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /products", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, catalogAnswer{version, served.Add(1), products})
	})
	return newHTTP(mux), nil
}

// orderAnswer is the answer to an order. Attempts counts the requests that have
// reached this program, Failed those of them that it refused.
type orderAnswer struct {
	Order    string `json:"order"`
	Attempts int64  `json:"attempts"`
	Failed   int64  `json:"failed"`
}

// newOrders makes a service that is not well: every FAIL_EVERY-th request fails.
func newOrders(getenv env) (server, error) {
	every, err := strconv.ParseInt(getenv("FAIL_EVERY", "3"), 10, 64)
	if err != nil || every < 0 {
		return nil, fmt.Errorf("FAIL_EVERY: want a number, 0 for never, got %q", getenv("FAIL_EVERY", "3"))
	}
	var attempts, failed atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, _ *http.Request) {
		n := attempts.Add(1)
		if every > 0 && n%every == 0 {
			failed.Add(1)
			http.Error(w, "the database of orders is not in the mood", http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, orderAnswer{fmt.Sprintf("order-%d", n), n, failed.Load()})
	})
	return newHTTP(mux), nil
}

// newReports makes a service that takes its time.
func newReports(getenv env) (server, error) {
	delay, err := time.ParseDuration(getenv("DELAY", "1s"))
	if err != nil {
		return nil, fmt.Errorf("DELAY: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /reports", func(w http.ResponseWriter, r *http.Request) {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
			writeJSON(w, map[string]string{"report": "all is well", "took": delay.String()})
		case <-r.Context().Done():
		}
	})
	return newHTTP(mux), nil
}

// bankAnswer is a receipt. Calls counts the payments; From is the address that
// the connection came from and To the one it arrived at.
type bankAnswer struct {
	Calls int64  `json:"calls"`
	From  string `json:"from"`
	To    string `json:"to"`
}

func newBank(env) (server, error) {
	var calls atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /pay", func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		to, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		writeJSON(w, bankAnswer{calls.Add(1), from, to.String()})
	})
	return newHTTP(mux), nil
}
