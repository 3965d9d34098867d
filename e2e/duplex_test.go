package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"testing"
	"time"
)

// TestDirectionsAreIndependent: a client may send a whole request before it reads anything
// of a response that flows meanwhile, however long both are, as long as the backend reads
// while it writes.
func TestDirectionsAreIndependent(t *testing.T) {
	t.Parallel()
	const size = 64 << 20 // beyond what all sockets on the way can hold
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	read := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			read <- err
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		q, err := http.ReadRequest(in)
		if err != nil {
			read <- err
			return
		}
		written := make(chan struct{})
		go func() {
			defer close(written)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
			w := httputil.NewChunkedWriter(c)
			_, _ = io.CopyN(w, zeros{}, size) // what is missing is seen by the client
			w.Close()
			fmt.Fprint(c, "\r\n")
		}()
		n, err := io.Copy(io.Discard, q.Body)
		if err == nil && n != size {
			err = fmt.Errorf("the backend got %d bytes", n)
		}
		read <- err
		<-written
	}()
	port := freePort(t)
	m := startMecha(t, staticShop(uint32(l.Addr().(*net.TCPAddr).Port), "", port))
	m.ready()
	c, err := net.Dial("tcp", local(port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
	w := httputil.NewChunkedWriter(c)
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatalf("while sending: %v", err)
	}
	w.Close()
	fmt.Fprint(c, "\r\n")
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r.Body); err != nil || n != size {
		t.Errorf("%d bytes of the response: %v", n, err)
	}
}

// zeros never ends.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
