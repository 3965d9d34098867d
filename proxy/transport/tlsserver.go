package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// maxHandshake ends handshakes where nothing else does: half of one must not be for ever.
const maxHandshake = 60 * time.Second

// DownstreamTLS terminates TLS (DownstreamTlsContext).
type DownstreamTLS struct {
	TLS
	RequireClientCertificate bool
	Staples                  StaplePolicy
	FullScan                 bool          // full_scan_certs_on_sni_mismatch
	NoTickets                bool          // disable_stateless_session_resumption
	SessionTimeout           time.Duration // 0: that of package crypto/tls
	TicketKeys               secret.Source[secret.TicketKeys]

	contexts built[serverContext]
}

// serverContext is what handshakes use until a secret changes.
type serverContext struct {
	secrets
	rules   *rules
	choice  *choice
	config  *tls.Config
	noALPN  *tls.Config // config, for clients with whom there is no protocol in common
	tickets *secret.TicketKeys
}

// Key implements Socket.
func (t *DownstreamTLS) Key() string { return "tls " + t.ID }

// Client implements Socket.
func (t *DownstreamTLS) Client(context.Context, *netio.Conn, *Peer) (*netio.Conn, error) {
	return nil, errors.New("a DownstreamTlsContext is for downstream connections")
}

// Server implements Socket.
func (t *DownstreamTLS) Server(ctx context.Context, raw *netio.Conn, m *meta.Conn, st *TLSStats) (*netio.Conn, error) {
	sc, err := t.context(st)
	if err != nil {
		if errors.Is(err, errNotReady) {
			st.secrets.DownNotReady.Inc()
		}
		_ = raw.Close() // refused
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, maxHandshake)
		defer cancel()
	}
	h := &serverHandshake{sc: sc, verifier: verifier{rules: sc.rules, stats: st, server: true}}
	if t.KeyLog.wants(raw) {
		h.log = t.KeyLog
	}
	records := netio.NewRecords(raw)
	conn := tls.Server(records, &tls.Config{GetConfigForClient: h.configFor, MinVersion: t.Min, MaxVersion: t.Max})
	if err := handshake(ctx, raw, conn); err != nil {
		h.failed(err)
		_ = raw.Close() // it is of no use
		return nil, failure(err)
	}
	m.TLS = describe(conn, h.local(), &h.verifier)
	m.PeerPresented, m.PeerValidated = len(m.TLS.Peer) > 0, m.TLS.Validated
	if m.ServerName == "" {
		m.ServerName = strings.ToLower(m.TLS.ServerName)
	}
	h.succeeded(m.TLS)
	return records.Over(conn), nil
}

// context returns what handshakes use now.
func (t *DownstreamTLS) context(st *TLSStats) (*serverContext, error) {
	return t.contexts.get(st, t.fresh, t.build)
}

// fresh reports whether no secret has changed since sc was built.
func (t *DownstreamTLS) fresh(sc *serverContext) bool {
	return sc.same(&t.TLS) && (t.TicketKeys == nil || t.TicketKeys.Current() == sc.tickets)
}

func (t *DownstreamTLS) build() (*serverContext, error) {
	s, err := t.read()
	if err != nil {
		return nil, err
	}
	sc := &serverContext{secrets: s, choice: newChoice(s.certs, t.Staples, t.FullScan)}
	if sc.rules, err = newRules(s.validation, x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	c := t.config()
	c.SessionTicketsDisabled = t.NoTickets
	switch v := s.validation; {
	case t.RequireClientCertificate:
		c.ClientAuth = tls.RequireAnyClientCert
	case v.Requires() || v != nil && v.Anything:
		c.ClientAuth = tls.RequestClientCert
	}
	if v := s.validation; v != nil && !v.HideCAs && len(v.CAs) > 0 {
		c.ClientCAs = pool(nil, v.CAs, false)
	}
	if t.TicketKeys != nil {
		if sc.tickets = t.TicketKeys.Current(); sc.tickets == nil {
			return nil, errNotReady
		}
		c.SetSessionTicketKeys(sc.tickets.Keys())
	} else if !t.NoTickets {
		c.SetSessionTicketKeys(freshTicketKeys())
	}
	if t.SessionTimeout > 0 {
		limitSessions(c, t.SessionTimeout)
	}
	sc.config = c
	sc.noALPN = c.Clone()
	sc.noALPN.NextProtos = nil
	return sc, nil
}

// limitSessions makes tickets expire: they carry when they were made.
func limitSessions(c *tls.Config, timeout time.Duration) {
	keys := c.Clone() // EncryptTicket would call WrapSession of c again
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
}

// sessionStamp marks the time in a ticket.
const sessionStamp = "mecha-made:"

// serverHandshake is one handshake.
type serverHandshake struct {
	verifier
	sc     *serverContext
	chosen *secret.Certificate
	log    *KeyLog
}

// configFor is tls.Config.GetConfigForClient. Where client and server have no protocol in
// common, package crypto/tls ends the handshake and BoringSSL goes on without one.
func (h *serverHandshake) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	base := h.sc.config
	if len(base.NextProtos) > 0 && len(hello.SupportedProtos) > 0 && !overlaps(base.NextProtos, hello.SupportedProtos) {
		base = h.sc.noALPN
	}
	cert, staple, err := h.sc.choice.choose(hello, h.stats)
	if err != nil {
		return nil, err
	}
	h.chosen = cert
	c := base.Clone()
	c.VerifyConnection = h.verify
	pair := *cert.Pair()
	pair.OCSPStaple = staple
	c.Certificates = []tls.Certificate{pair}
	if h.log != nil {
		c.KeyLogWriter = h.log
	}
	return c, nil
}

func (h *serverHandshake) local() *x509.Certificate {
	if h.chosen == nil {
		return nil
	}
	return h.chosen.Leaf()
}

// failed counts a handshake that has failed.
func (h *serverHandshake) failed(err error) {
	switch {
	case errors.As(err, new(*verifyError)): // counted
	case strings.Contains(err.Error(), "didn't provide a certificate"):
		h.stats.FailNoCert.Inc()
	default:
		h.stats.ConnectionError.Inc()
	}
}

// succeeded counts a handshake that has not.
func (v *verifier) succeeded(m *meta.TLS) {
	v.stats.Handshake.Inc()
	if m.Resumed {
		v.stats.SessionReused.Inc()
	}
	if len(m.Peer) == 0 {
		v.stats.NoCertificate.Inc()
	}
	v.stats.session(m.Version, m.Cipher, m.Curve)
}

var errStaple = errors.New("OCSP_STAPLE_REQUIRED")
