package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// http2Hosts makes the cluster's hosts speak HTTP/2.
const http2Hosts = `
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}`

// TestAllocationsHTTP2: streams take no memory from the heap either, once the fields of
// their heads have been seen before. A value that is new costs who reads it its string:
// hence no request IDs.
func TestAllocationsHTTP2(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("instrumented build")
	}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("r", 1024))
	t.Run("to HTTP/1.1", func(t *testing.T) {
		c := newFrames(t, throughProxy(t, httpListener, answering(t, []byte("\r\n\r\n"), answer), ""))
		c.measure(t)
	})
	t.Run("to HTTP/2", func(t *testing.T) {
		plain := strings.Replace(httpListener, "stat_prefix: web", "stat_prefix: web\n          generate_request_id: false", 1)
		behind := throughProxy(t, plain, answering(t, []byte("\r\n\r\n"), answer), "")
		c := newFrames(t, throughProxy(t, plain, behind.RemoteAddr().(*net.TCPAddr).Port, http2Hosts))
		c.measure(t)
	})
}

// frames is a client of HTTP/2 that takes no memory itself.
type frames struct {
	conn   net.Conn
	first  []byte // the block of the first request, which fills the table
	again  []byte // of all others
	stream uint32
	out    []byte
	in     []byte
}

func newFrames(t *testing.T, conn net.Conn) *frames {
	t.Helper()
	c := &frames{conn: conn, stream: 1, out: make([]byte, 0, 1024), in: make([]byte, 64<<10)}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, into := range []*[]byte{&c.first, &c.again} {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/a/b?c=d"}, {":authority", "shop.example.com"}, {"user-agent", "test"}, {"accept", "*/*"}} {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				t.Fatal(err)
			}
		}
		*into = bytes.Clone(block.Bytes())
	}
	var hello bytes.Buffer
	hello.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&hello, nil)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := fr.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := fr.WriteSettingsAck(); err != nil { // the proxy's will come
		t.Fatal(err)
	}
	if _, err := conn.Write(hello.Bytes()); err != nil {
		t.Fatal(err)
	}
	c.exchange(t, c.first)
	return c
}

// exchange sends a request without a body and reads up to the end of its response.
func (c *frames) exchange(t *testing.T, block []byte) {
	b := append(c.out[:0], 0, byte(len(block)>>8), byte(len(block)), byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream))
	b = binary.BigEndian.AppendUint32(b, c.stream)
	if _, err := c.conn.Write(append(b, block...)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := io.ReadFull(c.conn, c.in[:9]); err != nil {
			t.Fatal(err)
		}
		n := int(c.in[0])<<16 | int(c.in[1])<<8 | int(c.in[2])
		kind, flags, stream := http2.FrameType(c.in[3]), c.in[4], binary.BigEndian.Uint32(c.in[5:])
		if _, err := io.ReadFull(c.conn, c.in[:n]); err != nil {
			t.Fatal(err)
		}
		switch {
		case kind == http2.FrameRSTStream, kind == http2.FrameGoAway:
			t.Fatalf("%v on stream %d: %x", kind, stream, c.in[:n])
		case kind == http2.FrameData && stream == c.stream && flags&byte(http2.FlagDataEndStream) != 0:
			c.stream += 2
			return
		}
	}
}

func (c *frames) measure(t *testing.T) {
	t.Helper()
	for range 300 { // fills pools, and the journal
		c.exchange(t, c.again)
	}
	if n := testing.AllocsPerRun(500, func() { c.exchange(t, c.again) }); n != 0 {
		t.Errorf("%v allocations for each exchange, want 0", n)
	}
}
