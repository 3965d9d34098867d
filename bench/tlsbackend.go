package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// tlsBackend is the back end behind TLS: it demands a certificate of its clients.
type tlsBackend struct {
	listener net.Listener
	work     sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool
}

func startTLSBackend(c *certs) (*tlsBackend, error) {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{c.backend}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.pool,
		MinVersion: tls.VersionTLS13,
	})
	if err != nil {
		return nil, err
	}
	b := &tlsBackend{listener: l, conns: map[net.Conn]bool{}}
	answers := httpAnswers()
	b.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns[conn] = true
			b.mu.Unlock()
			b.work.Go(func() {
				if err := serveTLS(conn, answers); !ended(err) {
					fmt.Fprintln(os.Stderr, "bench: back end over TLS:", err)
				}
				_ = conn.Close()
				b.mu.Lock()
				delete(b.conns, conn)
				b.mu.Unlock()
			})
		}
	})
	return b, nil
}

// ended reports whether a proxy has closed its connection, or was ended with it open.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET)
}

func (b *tlsBackend) port() int { return b.listener.Addr().(*net.TCPAddr).Port }

func (b *tlsBackend) close() {
	_ = b.listener.Close()
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close()
	}
	b.mu.Unlock()
	b.work.Wait()
}

// serveTLS answers requests without bodies until the connection ends, and returns why it did.
func serveTLS(c net.Conn, answers map[string][]byte) error {
	buf := make([]byte, 8<<10)
	for n := 0; ; {
		m, err := c.Read(buf[n:])
		if err != nil {
			return err
		}
		n += m
		head, length, err := httpHead(buf[:n])
		switch {
		case err != nil:
			return err
		case head == 0 && n == len(buf), length > 0, head > 0 && n > head:
			return fmt.Errorf("a request of %d bytes with a body of %d", n, length)
		case head == 0:
			continue
		}
		_, rest, _ := bytes.Cut(buf[:head], []byte(" "))
		path, _, _ := bytes.Cut(rest, []byte(" "))
		answer := answers[string(path)]
		if answer == nil {
			return fmt.Errorf("a request for %q", path)
		}
		if _, err := c.Write(answer); err != nil {
			return err
		}
		n = 0
	}
}
