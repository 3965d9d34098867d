package tlsinspector

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"
	"testing"
)

// helloOf returns the ClientHello that crypto/tls sends.
func helloOf(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, c).Handshake() // fails: nobody answers
	}()
	defer client.Close()
	defer server.Close()
	b := make([]byte, recordHeader)
	if _, err := readFull(server, b); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, binary.BigEndian.Uint16(b[3:]))
	if _, err := readFull(server, rest); err != nil {
		t.Fatal(err)
	}
	return append(b, rest...)
}

func readFull(c net.Conn, p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := c.Read(p[n:])
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// inRecords cuts a handshake message into records of n bytes.
func inRecords(msg []byte, n int) []byte {
	var out []byte
	for piece := range slices.Chunk(msg, n) {
		out = append(out, recordHandshake, 3, 1, byte(len(piece)>>8), byte(len(piece)))
		out = append(out, piece...)
	}
	return out
}

// ext is one extension of a made-up ClientHello.
func ext(kind int, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(kind))
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

func vec16(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

// message1 is a ClientHello with these extensions.
func message1(exts ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0)                // session id
	body = append(body, 0, 2, 0x13, 0x01) // cipher suites
	body = append(body, 1, 0)             // compression
	if exts != nil {
		body = append(body, vec16(bytes.Join(exts, nil))...)
	}
	return append([]byte{clientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func sni(name string) []byte {
	return ext(extServerName, vec16(append([]byte{0}, vec16([]byte(name))...)))
}

func alpn(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(append(list, byte(len(n))), n...)
	}
	return ext(extALPN, vec16(list))
}

func TestParseRealHello(t *testing.T) {
	real := helloOf(t, &tls.Config{ServerName: "WWW.Example.com", NextProtos: []string{"istio", "h2"}})
	msg := real[recordHeader:]
	for name, b := range map[string][]byte{
		"as it is": real, "in records of 1": inRecords(msg, 1), "of 7": inRecords(msg, 7), "of 100": inRecords(msg, 100),
		"followed by more": append(slices.Clone(real), 20, 3, 3, 0, 1, 1),
	} {
		h, v, _ := parse(b, 16<<10)
		if v != found || h.serverName != "www.example.com" || !slices.Equal(h.alpn, []string{"istio", "h2"}) {
			t.Errorf("%s: %v %+v", name, v, h)
		}
	}
	bare := helloOf(t, &tls.Config{InsecureSkipVerify: true})
	if h, v, _ := parse(bare, 16<<10); v != found || h.serverName != "" || h.alpn != nil {
		t.Errorf("%v %+v", v, h)
	}
}

// TestParseCut: every prefix of a ClientHello asks for more, and never for more than
// there is.
func TestParseCut(t *testing.T) {
	msg := helloOf(t, &tls.Config{ServerName: "a.example", NextProtos: []string{"h2"}})[recordHeader:]
	for _, n := range []int{3, 50, 1 << 14} {
		whole := inRecords(msg, n)
		for i := range whole {
			_, v, need := parse(whole[:i], 16<<10)
			if v != more || need <= i || need > len(whole) {
				t.Fatalf("records of %d, %d bytes: %v, needs %d of %d", n, i, v, need, len(whole))
			}
		}
	}
}

func TestParseVerdicts(t *testing.T) {
	ok := message1(sni("a"))
	with := func(at int, b byte) []byte {
		r := inRecords(ok, 1<<14)
		r[at] = b
		return r
	}
	longer := slices.Clone(ok)
	longer[3]++ // the message claims another byte
	for _, c := range []struct {
		name  string
		in    []byte
		limit int
		want  verdict
	}{
		{"nothing", nil, 1000, more},
		{"HTTP", []byte("GET / HTTP/1.1"), 1000, notTLS},
		{"one other byte", []byte{0x15}, 1000, notTLS},
		{"one byte", []byte{0x16}, 1000, more},
		{"version", with(1, 2), 1000, notTLS},
		{"any minor version", with(2, 77), 1000, found},
		{"not a ClientHello", with(5, 2), 1000, notTLS},
		{"empty record", []byte{0x16, 3, 1, 0, 0}, 1000, notTLS},
		{"record too long", []byte{0x16, 3, 1, 0x40, 1}, 1 << 16, notTLS},
		{"message ends in its record", append(inRecords(ok, 1<<14), 1, 2, 3), 1000, found},
		{"claims more than it has", inRecords(longer, 1<<14), 1000, more},
		{"alert within", append(inRecords(ok[:10], 10), 21, 3, 1, 0, 2, 2, 40), 1000, notTLS},
		{"no extensions", inRecords(message1(), 1<<14), 1000, found},
		{"empty extensions", inRecords(message1([]byte{}), 1<<14), 1000, found},
		{"at the limit", inRecords(ok, 1<<14), len(ok) + recordHeader, found},
		{"beyond the limit", inRecords(ok, 1<<14), len(ok) + recordHeader - 1, tooLarge},
		{"claims too much", []byte{0x16, 3, 1, 0x10, 0, 1, 0xff, 0, 0}, 16 << 10, tooLarge},
		{"large", inRecords(message1(ext(21, make([]byte, 15_000))), 1<<14), 16 << 10, found},
		{"too large", inRecords(message1(ext(21, make([]byte, 20_000))), 1<<14), 16 << 10, tooLarge},
		{"too many records", inRecords(append(ok, make([]byte, 3000)...)[:len(ok)], 1), 200, tooLarge},
	} {
		if _, v, _ := parse(c.in, c.limit); v != c.want {
			t.Errorf("%s: verdict %d, want %d", c.name, v, c.want)
		}
	}
}

func TestParseMalformed(t *testing.T) {
	for name, msg := range map[string][]byte{
		"odd cipher suites":      append([]byte{clientHello, 0, 0, 39, 3, 3}, append(make([]byte, 32), 0, 0, 1, 0, 0)...),
		"cut extension":          message1([]byte{0, 0, 0, 9, 1}),
		"bytes after extensions": append(append([]byte{clientHello, 0, 0, 44}, message1([]byte{})[4:]...), 7),
		"two server names":       message1(sni("a"), sni("b")),
		"two names in one":       message1(ext(extServerName, vec16(slices.Concat([]byte{0, 0, 1}, []byte("a"), []byte{0, 0, 1}, []byte("b"))))),
		"empty server name":      message1(sni("")),
		"empty name list":        message1(ext(extServerName, []byte{0, 0})),
		"long server name":       message1(sni(string(bytes.Repeat([]byte("a"), 256)))),
		"NUL in server name":     message1(sni("a\x00b")),
		"cut server name":        message1(ext(extServerName, vec16([]byte{0, 0, 9, 'a'}))),
		"bytes after name list":  message1(ext(extServerName, append(vec16([]byte{0, 0, 1, 'a'}), 1))),
		"two ALPN":               message1(alpn("a"), alpn("b")),
		"empty protocol":         message1(alpn("a", "")),
		"empty protocol list":    message1(ext(extALPN, []byte{0, 0})),
		"cut protocol":           message1(ext(extALPN, vec16([]byte{9, 'a'}))),
	} {
		if h, v, _ := parse(inRecords(msg, 1<<14), 16<<10); v != notTLS || h.serverName != "" || h.alpn != nil {
			t.Errorf("%s: %v %+v", name, v, h)
		}
	}
	if h, v, _ := parse(inRecords(message1(ext(extServerName, vec16([]byte{7, 0, 1, 'x', 0, 0, 1, 'A'}))), 1<<14), 16<<10); v != found || h.serverName != "a" {
		t.Errorf("a name of another type: %v %+v", v, h)
	}
}

// FuzzParse: a verdict is final. What is decided by a prefix is not changed by what
// follows, and asking for more asks for something that is not there yet.
func FuzzParse(f *testing.F) {
	real := helloOf(f, &tls.Config{ServerName: "a.example.com", NextProtos: []string{"h2", "http/1.1"}})
	f.Add(real, uint16(100), uint16(1<<14))
	f.Add(inRecords(real[recordHeader:], 33), uint16(40), uint16(1<<14))
	f.Add(inRecords(message1(sni("a"), alpn("b")), 5), uint16(7), uint16(300))
	f.Add([]byte("GET / HTTP/1.1\r\n"), uint16(3), uint16(256))
	f.Fuzz(func(t *testing.T, b []byte, cut, limit uint16) {
		head := b[:min(int(cut), len(b))]
		before := slices.Clone(head)
		h, v, need := parse(head, int(limit))
		if !bytes.Equal(head, before) {
			t.Fatal("the bytes were changed")
		}
		if v == more {
			if need <= len(head) || need > len(head)+maxRecord+recordHeader {
				t.Errorf("%d bytes, needs %d", len(head), need)
			}
			return
		}
		whole, w, _ := parse(b, int(limit))
		if v != w || h.serverName != whole.serverName || !slices.Equal(h.alpn, whole.alpn) {
			t.Errorf("by %d bytes %v %+v, by %d bytes %v %+v", len(head), v, h, len(b), w, whole)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	hello := helloOf(b, &tls.Config{ServerName: "a.example.com", NextProtos: []string{"istio-peer-exchange", "istio"}})
	b.ReportAllocs()
	for b.Loop() {
		parse(hello, 16<<10)
	}
}
