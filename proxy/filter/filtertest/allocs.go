package filtertest

import (
	"bytes"
	"net"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// Allocs fails a filter that costs heap allocations for each request on its way through
// the HTTP engine. config is the filter's, as YAML. The request is "GET /" with a few
// usual fields, the response is a short 200.
func Allocs[C any](t *testing.T, spec filter.HTTPSpec[C], config string) {
	t.Helper()
	if race || buffer.Invariants {
		t.Skip("everything allocates under the race detector, and every slab with its stack under invariants")
	}
	exchange := exchanges(t, spec, config)
	if n := testing.AllocsPerRun(500, exchange); n > 0 {
		t.Errorf("%v allocations per request, want 0", n)
	}
}

// Bench measures what a request costs on its way through the HTTP engine with the filter in
// its chain, as Allocs sends it. What it costs without shows the benchmark of grpc_web,
// which has nothing to do with it.
func Bench[C any](b *testing.B, spec filter.HTTPSpec[C], config string) {
	b.Helper()
	exchange := exchanges(b, spec, config)
	b.ReportAllocs()
	for b.Loop() {
		exchange()
	}
}

// exchanges returns a function that sends a request through the engine and reads the
// response.
func exchanges[C any](tb testing.TB, spec filter.HTTPSpec[C], config string) (exchange func()) {
	tb.Helper()
	c, err := dialogue.ConfigOf(subject(spec), config)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := dialogue.NewMemory(c.Bootstrap, discard(), func(string, string) (net.Conn, error) { return echo() }, spec)
	if err != nil {
		tb.Fatal(err)
	}
	conn, err := m.Dial(c.Listener)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		conn.Close()
		m.Wait()
		m.Close()
	})
	request := []byte("GET / HTTP/1.1\r\nhost: a\r\nuser-agent: test\r\naccept: */*\r\nx-request-id: 1\r\n\r\n")
	buf := make([]byte, 4096)
	exchange = func() {
		if _, err := conn.Write(request); err != nil {
			tb.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(buf[:n], []byte("\r\n\r\nok")); {
			k, err := conn.Read(buf[n:])
			if n += k; err != nil {
				tb.Fatalf("after %q: %v", buf[:n], err)
			}
			if status := []byte("HTTP/1.1 200 "); n >= len(status) && !bytes.HasPrefix(buf, status) {
				tb.Fatalf("the filter refuses the request: %q", buf[:n])
			}
		}
	}
	for range 50 { // pools fill, slabs are made
		exchange()
	}
	return exchange
}

// echo is the proxy's end of a connection to an upstream that answers every request.
func echo() (net.Conn, error) {
	mine, theirs, err := dialogue.Pair()
	if err != nil {
		return nil, err
	}
	go func() {
		defer theirs.Close()
		answer := []byte("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
		buf := make([]byte, 4096)
		for n := 0; ; {
			k, err := theirs.Read(buf[n:])
			if err != nil {
				return
			}
			if n += k; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				if _, err := theirs.Write(answer); err != nil {
					return
				}
				n = 0
			}
		}
	}()
	return mine, nil
}
