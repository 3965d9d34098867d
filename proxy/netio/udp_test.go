package netio

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func openUDP(t testing.TB, o UDPOptions) *UDPSocket {
	t.Helper()
	s, err := OpenUDP(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	_ = s.SetReadDeadline(time.Now().Add(15 * time.Second))
	return s
}

// TestUDPBatch: many datagrams arrive whole, in order, and with their addresses.
func TestUDPBatch(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		s := openUDP(t, UDPOptions{Bind: netip.MustParseAddrPort(at), DualStack: at == "[::]:0"})
		to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Local().Port())
		if at == "[::1]:0" {
			to = s.Local()
		}
		c := openUDP(t, UDPOptions{To: to})
		var w UDPSender
		texts := []string{"", "a", strings.Repeat("b", 100), strings.Repeat("c", 101), "d"}
		for _, x := range texts {
			w.Add([]byte(x), nil)
		}
		if sent, size, lost, err := w.Flush(c); sent != len(texts) || size != 203 || lost != 0 || err != nil {
			t.Fatalf("%s: sent %d, %d bytes, lost %d, %v", at, sent, size, lost, err)
		}
		var r UDPReader
		r.Init(s, NewUDPPool(100))
		var got []string
		var lost uint64
		for len(got) < 4 {
			batch, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range batch {
				got = append(got, string(d.Data))
				if d.Peer != c.Local() || d.Local != to {
					t.Errorf("%s: from %v to %v, want %v %v", at, d.Peer, d.Local, c.Local(), to)
				}
				var path UDPPath
				path.Set(s, d.Peer, d.Local)
				w.Add(d.Data, &path)
			}
			lost += r.Lost()
			if _, _, lost, err := w.Flush(s); lost > 0 || err != nil {
				t.Fatalf("%s: answers: lost %d, %v", at, lost, err)
			}
		}
		if lost != 1 || got[0] != "" || got[1] != "a" || got[2] != texts[2] || got[3] != "d" {
			t.Errorf("%s: got %q, lost %d", at, got, lost)
		}
		r.Init(c, NewUDPPool(100)) // which is connected, and takes nothing from elsewhere
		if batch, err := r.Read(); err != nil || batch[0].Peer != to {
			t.Errorf("%s: answer %v, %v", at, batch, err)
		}
	}
}

func TestUDPReadEnds(t *testing.T) {
	s := openUDP(t, UDPOptions{Bind: netip.MustParseAddrPort("127.0.0.1:0")})
	var r UDPReader
	r.Init(s, NewUDPPool(1500))
	_ = s.SetReadDeadline(time.Now())
	if _, err := r.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	_ = s.SetReadDeadline(time.Time{})
	time.AfterFunc(10*time.Millisecond, func() { s.Close() })
	if _, err := r.Read(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if r.b != nil {
		t.Error("memory is held")
	}
}

// TestUDPRefused: that nobody listened is told, and nothing is lost by it.
func TestUDPRefused(t *testing.T) {
	gone := openUDP(t, UDPOptions{Bind: netip.MustParseAddrPort("127.0.0.1:0")})
	to := gone.Local()
	gone.Close()
	c := openUDP(t, UDPOptions{To: to})
	var w UDPSender
	w.Add([]byte("a"), nil)
	if sent, _, _, _ := w.Flush(c); sent != 1 {
		t.Fatalf("sent %d", sent)
	}
	back := openUDP(t, UDPOptions{Bind: to})
	w.Add([]byte("b"), nil)
	w.Add([]byte("c"), nil)
	if sent, _, lost, err := w.Flush(c); sent != 2 || lost != 0 || err != nil {
		t.Errorf("sent %d, lost %d, %v", sent, lost, err)
	}
	var r UDPReader
	r.Init(back, NewUDPPool(1500))
	if batch, err := r.Read(); err != nil || string(batch[0].Data) != "b" {
		t.Errorf("%v, %v", batch, err)
	}
	w.Add(make([]byte, 65536), nil) // longer than any datagram
	w.Add([]byte("d"), nil)
	if sent, _, lost, err := w.Flush(c); sent != 1 || lost != 1 || err == nil {
		t.Errorf("too long: sent %d, lost %d, %v", sent, lost, err)
	}
}

// TestUDPAllocs: datagrams cost no memory.
func TestUDPAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops what it is given under the race detector")
	}
	s := openUDP(t, UDPOptions{Bind: netip.MustParseAddrPort("127.0.0.1:0")})
	c := openUDP(t, UDPOptions{To: s.Local()})
	var w UDPSender
	var r UDPReader
	r.Init(s, NewUDPPool(1500))
	p := []byte("datagram")
	if n := testing.AllocsPerRun(100, func() {
		w.Add(p, nil)
		w.Add(p, nil)
		w.Flush(c)
		for n := 0; n < 2; {
			batch, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			n += len(batch)
		}
	}); n != 0 {
		t.Errorf("%v allocations for two datagrams", n)
	}
}

func FuzzUDPControl(f *testing.F) {
	f.Add(make([]byte, 40))
	f.Fuzz(func(_ *testing.T, p []byte) {
		room := make([]byte, udpCmsgRoom) // aligned, as the kernel's are
		r := UDPReader{}
		var local netip.AddrPort
		r.control(room[:copy(room, p)], &local)
	})
}
