package netio

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// choppy is a connection that hands out what arrives in pieces of random sizes. After
// left bytes (unless that is negative) it flips the bits of mask, or ends where mask is 0.
type choppy struct {
	net.Conn
	r    *rand.Rand
	left int
	mask byte
}

func (c *choppy) Read(p []byte) (int, error) {
	sizes := []int{1, 2, 5, 7, 100, 3000, buffer.SlabSize}
	p = p[:min(len(p), 1+c.r.IntN(sizes[c.r.IntN(len(sizes))]))]
	if c.left == 0 && c.mask == 0 {
		return 0, io.EOF
	}
	if c.left > 0 && c.mask == 0 {
		p = p[:min(len(p), c.left)]
	}
	n, err := c.Conn.Read(p)
	if c.left >= 0 && n > c.left {
		p[c.left] ^= c.mask
		c.left, c.mask = -1, 0
	} else if c.left >= 0 {
		c.left -= n
	}
	return n, err
}

// stored is a connection that has received data, and ends.
type stored struct {
	net.Conn // nil: nothing else is asked of it
	data     io.Reader
}

func (s *stored) Read(p []byte) (int, error) { return s.data.Read(p) }

// FuzzRecordBoundaries: whatever arrives, in whatever pieces, is handed out unchanged,
// never beyond the end of a record, and never more than a slab of it is kept.
func FuzzRecordBoundaries(f *testing.F) {
	f.Add([]byte{}, uint64(0), 10)
	f.Add([]byte("\x16\x03\x01"), uint64(1), 10)
	f.Add([]byte("\x16\x03\x01\x00\x00\x16\x03\x01\x00\x01x"), uint64(2), 1)
	f.Add(append([]byte("\x17\x03\x03\xff\xff"), bytes.Repeat([]byte("x"), 70000)...), uint64(3), 20000)
	f.Add(bytes.Repeat(append([]byte("\x17\x03\x03\x40\x11"), bytes.Repeat([]byte("x"), 0x4011)...), 3), uint64(4), 16<<10)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), uint64(5), 3)
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, size int) {
		r := NewRecords(NewConn(&choppy{Conn: &stored{data: bytes.NewReader(data)}, r: rand.New(rand.NewPCG(seed, 1)), left: -1}))
		defer r.in.Release()
		var got []byte
		end, p := 0, make([]byte, min(max(size, 1), 64<<10))
		for {
			n, err := r.Read(p)
			if r.in.Len() > buffer.SlabSize+recordHeader {
				t.Fatalf("%d bytes are kept", r.in.Len())
			}
			if err != nil {
				if err != io.EOF || n != 0 {
					t.Fatalf("ended with %d, %v", n, err)
				}
				break
			}
			if len(got) == end { // the record that n begins
				if end = len(data); len(data)-len(got) >= recordHeader {
					h := data[len(got):]
					end = len(got) + recordHeader + int(h[3])<<8 + int(h[4])
				}
			}
			if got = append(got, p[:n]...); n == 0 || len(got) > end {
				t.Fatalf("read %d, %d beyond the record", n, len(got)-end)
			}
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("%d bytes of %d came through, or others", len(got), len(data))
		}
	})
}

// testCertificate makes a certificate that nobody trusts.
func testCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(cryptorand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// FuzzRecords sends a text through TLS in pieces of random sizes and reads it in every way
// there is: it comes through unchanged, and of one that was damaged or cut off comes a
// beginning and an error.
func FuzzRecords(f *testing.F) {
	cert := testCertificate(f)
	f.Add([]byte("hello"), uint32(1), uint64(1), -1, byte(0))
	f.Add([]byte("x"), uint32(40000), uint64(2), -1, byte(0))
	f.Add([]byte("abc"), uint32(20000), uint64(3), 3, byte(0))
	f.Add([]byte("abc"), uint32(20000), uint64(4), 3, byte(0x40)) // the length of a record
	f.Add([]byte("abc"), uint32(1000), uint64(5), 20, byte(1))
	f.Add([]byte(""), uint32(0), uint64(6), 0, byte(0xff))
	f.Fuzz(func(t *testing.T, word []byte, times uint32, seed uint64, at int, mask byte) {
		text := bytes.Repeat(word, min(int(times), (100<<10)/max(len(word), 1)))
		a, b := net.Pipe()
		under := &choppy{Conn: b, r: rand.New(rand.NewPCG(seed, 2)), left: -1}
		records := NewRecords(NewConn(under))
		server := tls.Server(records, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
		client := tls.Client(a, &tls.Config{InsecureSkipVerify: true})
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer client.Close()
			if client.Handshake() != nil {
				return
			}
			go io.Copy(io.Discard, client) // an alert, which waits for its reader in a pipe
			r := rand.New(rand.NewPCG(seed, 3))
			for rest := text; len(rest) > 0; {
				n := min(len(rest), 1+r.IntN(1+r.IntN(40000)))
				if _, err := client.Write(rest[:n]); err != nil {
					return // the reader has given up
				}
				rest = rest[n:]
			}
		}()
		if err := server.Handshake(); err != nil {
			t.Fatal(err)
		}
		if under.left = -1; at >= 0 {
			under.left, under.mask = at, mask
		}
		c := records.Over(server, nil)
		got, err := readEveryWay(t, c, rand.New(rand.NewPCG(seed, 4)))
		hurt := at >= 0 && under.left <= 0 && (under.left == 0 || under.mask != mask)
		b.Close() // the writer has nobody to wait for
		c.Close()
		<-done
		switch {
		case !bytes.HasPrefix(text, got):
			t.Fatalf("%d bytes came that were not sent", len(got))
		case !hurt && (err != io.EOF || len(got) != len(text)):
			t.Fatalf("%d bytes of %d came through, then %v", len(got), len(text), err)
		case err == nil:
			t.Fatal("no end")
		}
	})
}

// readEveryWay reads until it fails.
func readEveryWay(t *testing.T, c *Conn, r *rand.Rand) (got []byte, err error) {
	var b buffer.Buf
	defer b.Release()
	take := func() bool {
		if c.rec.in.Len() > 5*buffer.SlabSize { // a header can announce 64 KiB
			t.Fatalf("%d bytes are kept", c.rec.in.Len())
		}
		got = append(got, b.Bytes()...)
		b.Discard(b.Len())
		return r.IntN(3) > 0
	}
	for err == nil || errors.Is(err, ErrWouldBlock) {
		switch r.IntN(4) {
		case 0:
			_, err = c.ReadBufMax(&b, 1+r.IntN(20000))
		case 1:
			_, err = c.TryReadBuf(&b)
		case 2:
			_, err = c.ReadBuf(&b)
		case 3:
			err = c.ReadEach(&b, take)
		}
		take()
	}
	return got, err
}
