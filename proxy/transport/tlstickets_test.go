package transport

import (
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// again makes a handshake and reports whether a session was resumed.
func again(t *testing.T, down *DownstreamTLS, up *UpstreamTLS, to *Peer) bool {
	t.Helper()
	var m meta.Conn
	st := &TLSStats{}
	if _, _, cerr, serr := shake(t, down, up, to, &m, st); cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	if m.TLS.Resumed != (st.SessionReused.Value() == 1) {
		t.Errorf("resumed is %t, counted %d", m.TLS.Resumed, st.SessionReused.Value())
	}
	return m.TLS.Resumed
}

// lasting is a certificate for tests in which weeks pass.
func lasting() *x509.Certificate {
	return &x509.Certificate{NotBefore: time.Now(), NotAfter: time.Now().Add(1000 * time.Hour)}
}

// client is one that resumes, and forgets nobody's sessions.
func client(cert *secret.Certificate, max uint16) *UpstreamTLS {
	up := &UpstreamTLS{TLS: contextOf(cert), SNI: "a.test", MaxSessions: 1}
	up.Max = max
	return up
}

// TestOwnTicketKeys: keys of our own change every day, and open tickets for seven.
func TestOwnTicketKeys(t *testing.T) {
	var o ownTickets
	start := time.Now()
	first, until := o.at(start)
	if len(first) != 1 || !until.Equal(start.Add(24*time.Hour)) {
		t.Fatalf("%d keys until %v", len(first), until)
	}
	for day := 1; day <= 9; day++ {
		before, _ := o.at(start.Add(time.Duration(day)*24*time.Hour - 1))
		keys, _ := o.at(start.Add(time.Duration(day) * 24 * time.Hour))
		if want := min(day+1, 7); len(keys) != want || keys[0] == before[0] || keys[1] != before[0] {
			t.Errorf("day %d: %d keys, want %d", day, len(keys), want)
		}
		if opens := keys[len(keys)-1] == first[0]; opens != (day < 7) {
			t.Errorf("day %d: the first key is valid: %t", day, opens)
		}
	}
}

// TestTicketsOutliveSecrets: who comes again resumes, whichever key is used by now and
// whatever has become of our certificate, as long as a ticket may live.
func TestTicketsOutliveSecrets(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"": 0, "session_timeout": 100 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newAuthority(t, "ca")
				source := &replaceable{ca.issue(lasting())}
				down := &DownstreamTLS{TLS: contextOf(), SessionTimeout: timeout}
				down.Certificates = []secret.Source[secret.Certificate]{source}
				up := client(ca.issue(lasting()), 0x0304)
				if again(t, down, up, nil) {
					t.Fatal("resumed what was not there")
				}
				time.Sleep(25 * time.Hour) // other keys
				source.v = ca.issue(lasting())
				if !again(t, down, up, nil) {
					t.Error("forgotten with the certificate, or with the key")
				}
				made := down.contexts.now.Load().keyed.until
				time.Sleep(24*time.Hour + time.Minute)
				if again(t, down, up, nil); !down.contexts.now.Load().keyed.until.After(made) {
					t.Error("the keys do not change while there is one context")
				}
				late := 7*24*time.Hour + time.Minute
				if timeout > 0 {
					late = timeout + time.Minute
				}
				time.Sleep(late)
				if again(t, down, up, nil) {
					t.Error("resumed after too long a time")
				}
			})
		})
	}
}

// TestConfiguredTicketKeys: processes that are given the same keys open each other's
// tickets; a key opens as long as it is in the list; others open nothing.
func TestConfiguredTicketKeys(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert := ca.issue(&x509.Certificate{})
	key := func(b byte) []byte {
		k := make([]byte, 80)
		k[79] = b // all of it counts
		return k
	}
	server := func(keys ...[]byte) *DownstreamTLS {
		k, err := secret.NewTicketKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		return &DownstreamTLS{TLS: contextOf(cert), TicketKeys: &replaceableKeys{k}}
	}
	for _, version := range []uint16{0x0303, 0x0304} {
		up := client(cert, version)
		for i, c := range []struct {
			at   *DownstreamTLS
			want bool
		}{
			{server(key(1)), false}, {server(key(1)), true}, {server(key(2), key(1)), true}, {server(key(2)), true},
			{server(key(3)), false}, {server(key(3)), true},
		} {
			if got := again(t, c.at, up, nil); got != c.want {
				t.Errorf("%x, step %d: resumed is %t", version, i, got)
			}
		}
	}
	// By SDS: the new list counts from the next handshake on.
	up, down := client(cert, 0x0304), server(key(1))
	again(t, down, up, nil)
	for i, keys := range [][][]byte{{key(2), key(1)}, {key(2)}, {key(3)}} {
		k, err := secret.NewTicketKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		down.TicketKeys.(*replaceableKeys).v = k
		if got, want := again(t, down, up, nil), i < 2; got != want {
			t.Errorf("update %d: resumed is %t", i, got)
		}
	}
}

// replaceableKeys is a source whose value a test replaces.
type replaceableKeys struct{ v *secret.TicketKeys }

func (r *replaceableKeys) Current() *secret.TicketKeys { return r.v }

// TestNoResumption: without tickets, or without room for sessions, every handshake is a
// full one.
func TestNoResumption(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert := ca.issue(&x509.Certificate{})
	for _, version := range []uint16{0x0303, 0x0304} {
		for name, c := range map[string]struct {
			none     bool
			sessions int
		}{"disable_stateless_session_resumption": {true, 1}, "max_session_keys: 0": {false, 0}} {
			down, up := &DownstreamTLS{TLS: contextOf(cert), NoTickets: c.none}, client(cert, version)
			up.MaxSessions = c.sessions
			for range 3 {
				if again(t, down, up, nil) {
					t.Errorf("%s, %x: resumed", name, version)
				}
			}
		}
	}
}

// TestMaxSessionKeys: a cluster keeps as many sessions as it may, those that were used last.
func TestMaxSessionKeys(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert := ca.issue(&x509.Certificate{})
	down := &DownstreamTLS{TLS: contextOf(cert)}
	up := &UpstreamTLS{TLS: contextOf(), MaxSessions: 2}
	named := func(name string) *Peer { return &Peer{Options: Options{ServerName: name}} }
	for i, c := range []struct {
		name string
		want bool
	}{{"a", false}, {"b", false}, {"a", true}, {"c", false}, {"a", true}, {"c", true}, {"b", false}} {
		if got := again(t, down, up, named(c.name)); got != c.want {
			t.Errorf("step %d, %s: resumed is %t", i, c.name, got)
		}
	}
}
