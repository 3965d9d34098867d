package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// backend is an application: it says who it is and answers a body with its hash.
// The path /slow takes slowTime, /hang waits until the client has gone.
type backend struct {
	name     string
	port     uint32
	requests atomic.Int64
	server   *httptest.Server
}

const slowTime = 30 * time.Millisecond

func startBackend(t testing.TB, name string) *backend {
	t.Helper()
	b := &backend{name: name}
	b.server = httptest.NewServer(b)
	b.port = uint32(b.server.Listener.Addr().(*net.TCPAddr).Port)
	t.Cleanup(b.server.Close)
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.requests.Add(1)
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	switch r.URL.Path {
	case "/slow":
		wait(slowTime)
	case "/hang":
		<-r.Context().Done()
		return
	}
	w.Header().Set("x-backend", b.name)
	if n > 0 {
		_, _ = io.WriteString(w, hex.EncodeToString(sum.Sum(nil))) // a client that has gone sees to itself
		return
	}
	_, _ = io.WriteString(w, b.name)
}
