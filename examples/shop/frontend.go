package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// frontend is the part of the shop that customers see. It asks the services
// behind it and passes on what they say.
type frontend struct {
	catalog, orders, reports, inventory string
	bank, backup                        string
	client                              *http.Client // keeps connections
	fresh                               *http.Client // a new connection each time
	dialer                              net.Dialer
}

// patience is how long the frontend waits for a service.
const patience = 10 * time.Second

func newFrontend(getenv env) (server, error) { return newHTTP(frontendHandler(getenv)), nil }

func frontendHandler(getenv env) http.Handler {
	f := &frontend{
		catalog:   getenv("CATALOG_URL", "http://catalog.shop:8080"),
		orders:    getenv("ORDERS_URL", "http://orders.shop:8080"),
		reports:   getenv("REPORTS_URL", "http://reports.shop:8080"),
		inventory: getenv("INVENTORY_ADDR", "inventory.shop:7000"),
		bank:      getenv("BANK_URL", "http://bank.shop:9100"),
		backup:    getenv("BANK_BACKUP_URL", "http://bank.shop:9200"),
		client:    &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		fresh:     &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}},
		dialer:    net.Dialer{Timeout: patience},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "the shop: GET /products, POST /orders, GET /reports, GET /stock/apple, POST /pay, POST /pay?bank=backup")
	})
	mux.HandleFunc("GET /products", func(w http.ResponseWriter, r *http.Request) {
		forward(w, r, f.client, f.catalog+"/products")
	})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		forward(w, r, f.client, f.orders+"/orders")
	})
	mux.HandleFunc("GET /reports", func(w http.ResponseWriter, r *http.Request) {
		forward(w, r, f.client, f.reports+"/reports")
	})
	mux.HandleFunc("GET /stock/{item}", f.stock)
	mux.HandleFunc("POST /pay", func(w http.ResponseWriter, r *http.Request) {
		bank := f.bank
		if r.URL.Query().Get("bank") == "backup" {
			bank = f.backup
		}
		forward(w, r, f.fresh, bank+"/pay")
	})
	return mux
}

// forward asks another service in the customer's name and passes on its answer.
func forward(w http.ResponseWriter, r *http.Request, client *http.Client, url string) {
	ask, err := http.NewRequestWithContext(r.Context(), r.Method, url, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer, err := client.Do(ask)
	if err != nil {
		http.Error(w, "the frontend got no answer: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close() //nolint:errcheck // only read from
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(w, answer.Body); err != nil {
		panic(http.ErrAbortHandler) // the customer sees a broken answer, not a short one
	}
}

// stockAnswer is what customers get for /stock/ITEM. Sent and Received count
// the bytes of the conversation with the inventory.
type stockAnswer struct {
	Stock    string `json:"stock"`
	Sent     int    `json:"bytes_sent"`
	Received int    `json:"bytes_received"`
}

// stock asks the inventory over TCP: one connection, one line each way.
func (f *frontend) stock(w http.ResponseWriter, r *http.Request) {
	a, err := f.ask(r.Context(), "STOCK "+r.PathValue("item")+"\n")
	if err != nil {
		http.Error(w, "the inventory: "+err.Error(), http.StatusBadGateway)
		return
	}
	writeJSON(w, a)
}

func (f *frontend) ask(ctx context.Context, line string) (stockAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := f.dialer.DialContext(ctx, "tcp", f.inventory)
	if err != nil {
		return stockAnswer{}, err
	}
	defer c.Close() //nolint:errcheck // the answer is complete or of no use
	end, _ := ctx.Deadline()
	if err := c.SetDeadline(end); err != nil {
		return stockAnswer{}, err
	}
	if _, err := io.WriteString(c, line); err != nil {
		return stockAnswer{}, err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return stockAnswer{}, err
	}
	return stockAnswer{Stock: answer[:len(answer)-1], Sent: len(line), Received: len(answer)}, nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler) // the customer is gone
	}
}
