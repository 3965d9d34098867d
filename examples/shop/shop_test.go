package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// settings is an environment for one service.
func settings(m map[string]string) env {
	return func(name, otherwise string) string {
		if v, ok := m[name]; ok {
			return v
		}
		return otherwise
	}
}

// start runs a service as main does and returns its address.
func start(t *testing.T, name string, m map[string]string) string {
	t.Helper()
	s, err := services[name](settings(m))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, s, []net.Listener{l}) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s does not end", name)
		}
	})
	return l.Addr().String()
}

func call(t *testing.T, method, url string, into any) int {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	re, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer re.Body.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(re.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil && re.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s: %v in %q", url, err, b)
		}
	}
	return re.StatusCode
}

// TestShop runs all services and asks each through the frontend.
func TestShop(t *testing.T) {
	bank := start(t, "bank", nil)
	front := "http://" + start(t, "frontend", map[string]string{
		"CATALOG_URL":     "http://" + start(t, "catalog", map[string]string{"VERSION": "v2"}),
		"ORDERS_URL":      "http://" + start(t, "orders", map[string]string{"FAIL_EVERY": "3"}),
		"REPORTS_URL":     "http://" + start(t, "reports", map[string]string{"DELAY": "20ms"}),
		"INVENTORY_ADDR":  start(t, "inventory", nil),
		"BANK_URL":        "http://" + bank,
		"BANK_BACKUP_URL": "http://" + bank,
	})
	var c catalogAnswer
	if code := call(t, "GET", front+"/products", &c); code != 200 || c.Version != "v2" || c.Served != 1 || len(c.Products) != 4 {
		t.Errorf("products: %d %+v", code, c)
	}
	var codes []int
	var o orderAnswer
	for range 6 {
		codes = append(codes, call(t, "POST", front+"/orders", &o))
	}
	if got := fmt.Sprint(codes); got != "[200 200 503 200 200 503]" || o.Attempts != 5 || o.Failed != 1 {
		t.Errorf("orders: %v, last success %+v", got, o)
	}
	began := time.Now()
	if code := call(t, "GET", front+"/reports", nil); code != 200 || time.Since(began) < 20*time.Millisecond {
		t.Errorf("reports: %d after %v", code, time.Since(began))
	}
	var s stockAnswer
	if code := call(t, "GET", front+"/stock/pear", &s); code != 200 || s != (stockAnswer{"pear 75", 11, 8}) {
		t.Errorf("stock: %d %+v", code, s)
	}
	var b bankAnswer
	for _, path := range []string{"/pay", "/pay?bank=backup"} {
		if code := call(t, "POST", front+path, &b); code != 200 || b.From != "127.0.0.1" || b.To != bank {
			t.Errorf("%s: %d %+v", path, code, b)
		}
	}
	if b.Calls != 2 {
		t.Errorf("the bank counted %d payments", b.Calls)
	}
}

// TestFrontendWithoutServices: what is down is the frontend's 502, at once.
func TestFrontendWithoutServices(t *testing.T) {
	gone := fmt.Sprintf("127.0.0.1:%d", ports.Free(t))
	front := httptest.NewServer(frontendHandler(settings(map[string]string{"CATALOG_URL": "http://" + gone, "INVENTORY_ADDR": gone})))
	defer front.Close()
	for _, path := range []string{"/products", "/stock/apple"} {
		if code := call(t, "GET", front.URL+path, nil); code != http.StatusBadGateway {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code := call(t, "GET", front.URL+"/nothing", nil); code != http.StatusNotFound {
		t.Errorf("/nothing: %d", code)
	}
}

func TestInventoryProtocol(t *testing.T) {
	c, err := net.Dial("tcp", start(t, "inventory", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // only a client
	r := bufio.NewReader(c)
	for _, e := range [][2]string{
		{"STOCK apple", "apple 120"},
		{"TAKE apple 20", "apple 100"},
		{"TAKE apple 101", "ERR cannot take 101 of 100"},
		{"TAKE apple -1", "ERR cannot take -1 of 100"},
		{"STOCK melon", "ERR no such item"},
		{"", "ERR want STOCK item or TAKE item number"},
		{"stock apple", "ERR want STOCK item or TAKE item number"},
	} {
		if _, err := io.WriteString(c, e[0]+"\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := r.ReadString('\n'); err != nil || got != e[1]+"\n" {
			t.Errorf("%q: %q, %v; want %q", e[0], got, err, e[1])
		}
	}
}

func TestWrongSettings(t *testing.T) {
	for _, c := range []struct{ args, name, value, want string }{
		{"", "", "", "usage: shop"},
		{"shopkeeper", "", "", "usage: shop"},
		{"orders", "FAIL_EVERY", "often", "FAIL_EVERY"},
		{"reports", "DELAY", "long", "DELAY"},
		{"catalog", "LISTEN", "nowhere", "LISTEN"},
	} {
		err := run(t.Context(), strings.Fields(c.args), settings(map[string]string{c.name: c.value}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s=%s: %v", c.args, c.name, c.value, err)
		}
	}
}
