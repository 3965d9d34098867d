package transport

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"strings"
	"sync"
	"time"
)

// How long keys of our own are used, as in package crypto/tls: one day they make tickets,
// and as long as a ticket may live (RFC 8446 section 4.6.1) they open them.
const (
	ticketKeyUse  = 24 * time.Hour
	ticketKeyLife = 7 * 24 * time.Hour
)

// ownTickets are the ticket keys of a listener's TLS that has none configured. They outlive
// its secrets, so that clients can resume after a certificate was replaced; what a client
// has shown is verified anew then. The zero value has none yet.
type ownTickets struct {
	mu   sync.Mutex
	keys []ownKey // the newest first
}

type ownKey struct {
	key  [32]byte
	made time.Time
}

// at returns the keys at a time, the first of which makes tickets, and when they change.
func (o *ownTickets) at(now time.Time) (keys [][32]byte, until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.keys) == 0 || now.Sub(o.keys[0].made) >= ticketKeyUse {
		fresh := ownKey{made: now}
		_, _ = rand.Read(fresh.key[:]) // never fails (crypto/rand)
		valid := []ownKey{fresh}
		for _, k := range o.keys {
			if now.Sub(k.made) < ticketKeyLife {
				valid = append(valid, k)
			}
		}
		o.keys = valid
	}
	for _, k := range o.keys {
		keys = append(keys, k.key)
	}
	return keys, o.keys[0].made.Add(ticketKeyUse)
}

// keyed are the configurations that share ticket keys.
type keyed struct {
	configs []*tls.Config
	mu      sync.Mutex
	until   time.Time // when keys of our own change; zero where they are configured
}

func (k *keyed) set(keys [][32]byte) {
	for _, c := range k.configs {
		c.SetSessionTicketKeys(keys)
	}
}

// renew takes keys of our own whose time has come. Handshakes may be under way.
func (k *keyed) renew(own *ownTickets, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Before(k.until) {
		return
	}
	keys, until := own.at(now)
	k.set(keys)
	k.until = until
}

// limitSessions makes tickets of c expire: they carry when they were made. It returns the
// configuration whose keys make and open them.
func limitSessions(c *tls.Config, timeout time.Duration) (keys *tls.Config) {
	keys = c.Clone() // EncryptTicket would call WrapSession of c again
	c.WrapSession = func(s tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, binary.BigEndian.AppendUint64([]byte(sessionStamp), uint64(time.Now().Unix())))
		return keys.EncryptTicket(s, ss)
	}
	c.UnwrapSession = func(ticket []byte, s tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := keys.DecryptTicket(ticket, s)
		if err != nil || ss == nil {
			return nil, err
		}
		for _, e := range ss.Extra {
			if at, ok := strings.CutPrefix(string(e), sessionStamp); ok && len(at) == 8 {
				made := time.Unix(int64(binary.BigEndian.Uint64([]byte(at))), 0)
				if time.Since(made) >= timeout {
					return nil, nil // a full handshake
				}
			}
		}
		return ss, nil
	}
	return keys
}

// sessionStamp marks the time in a ticket.
const sessionStamp = "mecha-made:"
