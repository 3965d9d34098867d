package l4

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// diary is what happens to the versions of a UDP listener, in order.
type diary []string

func (d *diary) note(what string, version int) { *d = append(*d, fmt.Sprint(what, " ", version)) }

// spec is a version of the listener whose filter writes the diary.
func (d *diary) spec(version int) *Spec {
	factory := func(env filter.Env) (filter.UDP, error) {
		env.OnRetire(func() { d.note("retire", version) })
		return diarist{d, version}, nil
	}
	return &Spec{
		Name: "u", Hash: uint64(version), Addresses: []Address{loopback()},
		UDP: &UDP{MaxDatagram: 100, Filters: []UDPFilter{{Name: "f", Hash: uint64(version), Factory: factory}}},
	}
}

type diarist struct {
	*diary
	version int
}

func (d diarist) Open(filter.UDPSocket) filter.UDPReceiver {
	d.note("open", d.version)
	return d
}

func (d diarist) Receive(batch []netio.Datagram) []netio.Datagram {
	for range batch {
		d.note("datagram", d.version)
	}
	return nil
}

func (d diarist) Close() { d.note("close", d.version) }

// stillUDP returns the socket of a UDP listener with version 1. The manager has not
// started: the test does what the goroutine of the socket would.
func stillUDP(t *testing.T, d *diary) (*Manager, *udpSocket) {
	m := NewManager(Options{Env: filter.Env{Stats: stats.NewStore(), Log: slog.New(slog.DiscardHandler)}})
	t.Cleanup(m.Close)
	setUDP(t, m, d.spec(1))
	return m, m.udp["u"].socks[0]
}

func setUDP(t *testing.T, m *Manager, s *Spec) {
	t.Helper()
	if err := m.Set(s); err != nil {
		t.Fatal(err)
	}
}

// TestDatagramsAfterUpdate: what is sent after a version was set is for that version,
// also when the socket has waited since the version before.
func TestDatagramsAfterUpdate(t *testing.T) {
	d := &diary{}
	m, a := stillUDP(t, d)
	a.follow()
	setUDP(t, m, d.spec(2))
	if err := a.sock.SetReadDeadline(time.Now().Add(patience)); err != nil { // nothing wakes it
		t.Fatal(err)
	}
	c, err := net.Dial("udp4", a.sock.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var rd netio.UDPReader
	rd.Init(a.sock, netio.NewUDPPool(100))
	defer rd.Release()
	a.take(rd.Read())
	a.end()
	if want := []string{"open 1", "open 2", "close 1", "retire 1", "datagram 2", "close 2"}; !slices.Equal(*d, want) {
		t.Errorf("%q, want %q", *d, want)
	}
}

// TestVersionsRetireOnce: a version that was replaced before a socket came to it is gone,
// and the socket goes on to the next one, or keeps what it has if there is none.
func TestVersionsRetireOnce(t *testing.T) {
	d := &diary{}
	m, a := stillUDP(t, d)
	first := a.l.cfg.Load()
	setUDP(t, m, d.spec(2))
	if first.hold() {
		t.Error("a version that was given up is held")
	}
	a.follow()
	setUDP(t, m, d.spec(3))
	m.Remove("u")
	a.follow()
	a.end()
	if want := []string{"retire 1", "open 2", "retire 3", "close 2", "retire 2"}; !slices.Equal(*d, want) {
		t.Errorf("%q, want %q", *d, want)
	}
}
