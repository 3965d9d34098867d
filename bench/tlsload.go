package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// tlsUse says what connections over TLS are used for.
type tlsUse int

const (
	tlsNot    tlsUse = iota
	tlsKeep          // one handshake, then request after request
	tlsResume        // one request, then another connection that resumes the session
	tlsFull          // one request, then another connection with a handshake in full
)

// tlsOrder is the load over TLS: a goroutine for each connection, which asks again
// as soon as it is answered, as freeOrder does without TLS. crypto/tls wants a
// net.Conn, so the loop only waits for the end.
type tlsOrder struct {
	g    *generator
	work sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	few    chan struct{} // with once: who is asking
}

func newTLSOrder(g *generator) *tlsOrder {
	return &tlsOrder{g: g, conns: map[net.Conn]bool{}, few: make(chan struct{}, onceAtATime)}
}

func (o *tlsOrder) begin() error {
	for range o.g.row.conns {
		for _, t := range o.g.targets {
			o.work.Go(func() {
				if err := o.client(t); err != nil && !o.g.stop.Load() {
					err = fmt.Errorf("%s %w", t.name, err)
					o.g.failed.CompareAndSwap(nil, &err)
				}
			})
		}
	}
	return nil
}

func (o *tlsOrder) answered(*client) error { return nil }
func (o *tlsOrder) tick() error            { return nil }

func (o *tlsOrder) close() {
	o.mu.Lock()
	o.closed = true
	for c := range o.conns {
		_ = c.Close()
	}
	o.mu.Unlock()
	o.work.Wait()
}

// client makes one connection after the other.
func (o *tlsOrder) client(t *target) error {
	cfg := o.g.row.certs.clientConfig()
	if o.g.row.tls == tlsResume {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	if o.g.row.load == once {
		o.few <- struct{}{}
	}
	buf := make([]byte, 8<<10)
	for n := 0; !o.g.stop.Load(); n++ {
		raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", t.port))
		if err != nil {
			return err
		}
		if !o.track(raw, true) {
			return nil
		}
		err = o.connection(t, tls.Client(raw, cfg), o.g.row.tls == tlsResume && n > 0, buf)
		o.track(raw, false)
		if err != nil {
			return err
		}
	}
	return nil
}

// connection uses one connection as the row says, and closes it.
func (o *tlsOrder) connection(t *target, c *tls.Conn, resumes bool, buf []byte) error {
	defer c.Close()
	if err := c.Handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if s := c.ConnectionState(); s.DidResume != resumes || s.Version != tls.VersionTLS13 || s.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		return fmt.Errorf("handshake: resumed is %v, want %v; version %x, cipher suite %x", s.DidResume, resumes, s.Version, s.CipherSuite)
	}
	for !o.g.stop.Load() {
		if err := askTLS(c, &o.g.row.exchange, buf); err != nil {
			return err
		}
		t.count.Add(1)
		switch {
		case o.g.row.load == once:
			<-o.few
			if err := c.SetReadDeadline(time.Time{}); err != nil {
				return err
			}
			for !o.g.stop.Load() { // until its owner closes the connection
				if _, err := c.Read(buf); err != nil {
					return err
				}
			}
		case o.g.row.tls != tlsKeep:
			return nil
		}
	}
	return nil
}

// track notes a connection while it is open. It returns false if there is to be none.
func (o *tlsOrder) track(c net.Conn, on bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !on:
		delete(o.conns, c)
	case o.closed:
		_ = c.Close()
		return false
	default:
		o.conns[c] = true
	}
	return true
}

// askTLS makes one request and checks its answer.
func askTLS(c net.Conn, ex *exchange, buf []byte) error {
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(ex.request); err != nil {
		return err
	}
	for n := 0; ; {
		m, err := c.Read(buf[n:])
		n += m
		head, length, herr := httpHead(buf[:n])
		switch {
		case herr != nil:
			return herr
		case head > 0 && (!bytes.HasPrefix(buf, okStatus) || length != ex.answer || n > head+length):
			return fmt.Errorf("answered %q", buf[:min(n, 200)])
		case head > 0 && n == head+length:
			return nil
		case err != nil:
			return err
		case n == len(buf):
			return errors.New("answered with too much")
		}
	}
}

// clientConfig knows the proxies' certificate by its bytes; checking the chain would
// only slow the load down. One group and one cipher suite, so that all proxies do
// the same work.
func (c *certs) clientConfig() *tls.Config {
	return &tls.Config{
		ServerName: tlsName, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, c.server.Certificate[0]) {
				return errors.New("another certificate")
			}
			return nil
		},
	}
}
