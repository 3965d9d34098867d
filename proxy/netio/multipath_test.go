package netio

import (
	"context"
	"net"
	"testing"
)

// TestMultipath: a socket for MPTCP takes both kinds of clients, any other one lets those
// of MPTCP fall back.
func TestMultipath(t *testing.T) {
	if !HasMultipath() {
		t.Skip("the kernel has no MPTCP")
	}
	for _, listens := range []bool{true, false} {
		l, err := Bind(ListenOptions{Addr: ip("127.0.0.1:0"), Multipath: listens})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := l.Listen(); err != nil {
			t.Fatal(err)
		}
		for _, dials := range []bool{true, false} {
			var d net.Dialer
			d.SetMultipathTCP(dials)
			c, err := d.DialContext(context.Background(), "tcp4", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			got, err := s.(*net.TCPConn).MultipathTCP()
			if err != nil || got != (listens && dials) {
				t.Errorf("listens %v, dials %v: MPTCP %v, %v", listens, dials, got, err)
			}
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if n, err := NewConn(s).Read(make([]byte, 2)); n != 1 || err != nil {
				t.Errorf("read %d, %v", n, err)
			}
		}
	}
}
