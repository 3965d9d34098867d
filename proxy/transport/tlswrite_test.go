package transport

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// TestWriteWithoutWaiting: TryWriteBuf does not wait for a peer that reads nothing, and what
// follows arrives behind what it has begun.
func TestWriteWithoutWaiting(t *testing.T) {
	ca := newAuthority(t, "ca")
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{}))}
	client, server, cerr, serr := shake(t, down, &UpstreamTLS{TLS: contextOf()}, nil, &meta.Conn{}, &TLSStats{})
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	sent := make([]byte, 16<<20)
	_, _ = rand.Read(sent)
	var b buffer.Buf
	b.Append(sent[:len(sent)-3])
	for range 3 { // the second and third find the socket full from the beginning
		if err := server.TryWriteBuf(&b); !errors.Is(err, netio.ErrWouldBlock) {
			t.Fatal(err)
		}
	}
	if b.Len() == 0 {
		t.Fatal("the socket took everything")
	}
	var last buffer.Buf
	last.Append(sent[len(sent)-3:])
	wrote := make(chan error, 1)
	go func() {
		err := server.WriteBuf(&b)
		for err == nil && last.Len() > 0 {
			err = server.TryWriteBuf(&last)
		}
		if err == nil || errors.Is(err, netio.ErrWouldBlock) {
			err = server.WriteBuf(&last)
		}
		if err == nil {
			err = server.CloseWrite()
		}
		wrote <- err
	}()
	_ = client.SetReadDeadline(time.Now().Add(60 * time.Second))
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes, not the %d that were sent; %v", len(got), len(sent), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// TestCloseWhileFull: what a socket has not taken goes with the connection.
func TestCloseWhileFull(t *testing.T) {
	ca := newAuthority(t, "ca")
	down := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{}))}
	_, server, cerr, serr := shake(t, down, &UpstreamTLS{TLS: contextOf()}, nil, &meta.Conn{}, &TLSStats{})
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	var b buffer.Buf
	b.Append(make([]byte, 16<<20))
	if err := server.TryWriteBuf(&b); !errors.Is(err, netio.ErrWouldBlock) {
		t.Fatal(err)
	}
	b.Release()
	_ = server.Close() // it can't say farewell
	b.AppendString("x")
	if err := server.WriteBuf(&b); err == nil {
		t.Error("a closed connection was written to")
	}
}
