package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	own      ownTickets
}

// serverContext is what handshakes use until a secret changes.
type serverContext struct {
	secrets
	rules   *rules
	choice  *choice
	config  *tls.Config
	noALPN  *tls.Config // config, for clients with whom there is no protocol in common
	tickets *secret.TicketKeys
	keyed   keyed
}

// Key implements Socket.
func (t *DownstreamTLS) Key() string { return t.ID }

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
		if h.refused != nil {
			err = h.refused
		}
		h.failed(err)
		_ = records.Close() // it is of no use, and neither is what has arrived
		return nil, failure(err, false)
	}
	m.TLS = describe(conn, h.local(), &h.verifier)
	if !m.Start.IsZero() {
		m.TLS.Handshake = time.Since(m.Start)
	}
	m.PeerPresented, m.PeerValidated = len(m.TLS.Peer) > 0, m.TLS.Validated
	h.succeeded(m.TLS)
	return records.Over(conn, st.lost), nil
}

// context returns what handshakes use now.
func (t *DownstreamTLS) context(st *TLSStats) (*serverContext, error) {
	sc, err := t.contexts.get(st, t.fresh, t.build)
	if err == nil && t.TicketKeys == nil && !t.NoTickets {
		sc.keyed.renew(&t.own, time.Now())
	}
	return sc, err
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
	// As in Envoy: who must have a certain name or key must show a certificate.
	case t.RequireClientCertificate, v.Demands():
		c.ClientAuth = tls.RequireAnyClientCert
	case v.Requires() || v != nil && v.Anything:
		c.ClientAuth = tls.RequestClientCert
	}
	if v := s.validation; v != nil && !v.HideCAs && len(v.CAs) > 0 {
		c.ClientCAs = pool(nil, v.CAs, false)
	}
	if t.SessionTimeout > 0 {
		sc.keyed.configs = append(sc.keyed.configs, limitSessions(c, t.SessionTimeout))
	}
	sc.config = c
	sc.noALPN = c.Clone()
	sc.noALPN.NextProtos = nil
	sc.keyed.configs = append(sc.keyed.configs, sc.config, sc.noALPN)
	if t.TicketKeys != nil {
		if sc.tickets = t.TicketKeys.Current(); sc.tickets == nil {
			return nil, errNotReady
		}
		sc.keyed.set(sc.tickets.Keys())
	}
	return sc, nil
}

// serverHandshake is one handshake.
type serverHandshake struct {
	verifier
	sc     *serverContext
	chosen *secret.Certificate
	log    *KeyLog
	// refused is why there is no certificate for the client.
	refused error
}

// hopeless is a configuration that no client can agree to, so that it is told of a
// handshake_failure. An error instead of a configuration would be an internal_error.
func hopeless(pair *tls.Certificate) *tls.Config {
	return &tls.Config{
		CurvePreferences: []tls.CurveID{0xffff}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		Certificates: []tls.Certificate{*pair},
	}
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
		h.refused = err
		return hopeless(h.sc.certs[0].Pair()), nil
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
	case uncounted(err), errors.Is(err, context.DeadlineExceeded):
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
