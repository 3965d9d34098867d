package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// UpstreamTLS originates TLS (UpstreamTlsContext).
type UpstreamTLS struct {
	TLS
	SNI           string
	AutoHostSNI   bool // the name of the host, if it has one, in place of SNI
	AutoSAN       bool // the name that is sent must be one of the certificate (auto_sni_san_validation)
	Renegotiation bool // allow_renegotiation
	MaxSessions   int  // max_session_keys, 0 resumes none

	contexts built[clientContext]
}

// clientContext is what handshakes use until a secret changes.
type clientContext struct {
	secrets
	rules  *rules
	config *tls.Config
}

// Key implements Socket.
func (t *UpstreamTLS) Key() string { return t.ID }

// PoolKey implements Bound: what filters ask of a connection is not for others.
func (t *UpstreamTLS) PoolKey(to Peer) string {
	o := &to.Options
	if o.ServerName == "" && o.ALPN == nil && o.SANs == nil {
		return ""
	}
	return o.ServerName + "\x00" + strings.Join(o.ALPN, "\x01") + "\x00" + strings.Join(o.SANs, "\x01")
}

// Server implements Socket.
func (t *UpstreamTLS) Server(context.Context, *netio.Conn, *meta.Conn, *TLSStats) (*netio.Conn, error) {
	return nil, errors.New("an UpstreamTlsContext is for upstream connections")
}

// Client implements Socket.
func (t *UpstreamTLS) Client(ctx context.Context, raw *netio.Conn, to *Peer) (*netio.Conn, error) {
	if to == nil {
		to = &Peer{}
	}
	st := to.Stats
	if st == nil {
		st = &TLSStats{}
	}
	cc, err := t.context(st)
	if err != nil {
		if errors.Is(err, errNotReady) {
			st.secrets.UpNotReady.Inc()
		}
		_ = raw.Close() // not made
		return nil, err
	}
	v := &verifier{rules: cc.rules, stats: st}
	records := netio.NewRecords(raw)
	conn := tls.Client(records, t.configFor(cc, raw, to, v))
	if err := handshake(ctx, raw, conn); err != nil {
		if !uncounted(err) {
			st.ConnectionError.Inc()
		}
		_ = records.Close() // it is of no use, and neither is what has arrived
		return nil, failure(err, conn.ConnectionState().Version == 0)
	}
	var local *x509.Certificate
	if len(cc.certs) > 0 {
		local = cc.certs[0].Leaf()
	}
	to.TLS = describe(conn, local, v)
	v.succeeded(to.TLS)
	return records.Over(conn, st.lost), nil
}

// configFor completes the configuration for one connection.
func (t *UpstreamTLS) configFor(cc *clientContext, raw *netio.Conn, to *Peer, v *verifier) *tls.Config {
	c := cc.config.Clone()
	c.ServerName = t.SNI
	switch {
	case to.Options.ServerName != "":
		c.ServerName = to.Options.ServerName
	case t.AutoHostSNI && to.Hostname != "":
		c.ServerName = to.Hostname
	}
	if len(to.Options.ALPN) > 0 {
		c.NextProtos = to.Options.ALPN
	} else if len(c.NextProtos) == 0 {
		c.NextProtos = to.ALPN
	}
	switch {
	case len(to.Options.SANs) > 0:
		v.names = to.Options.SANs
	case t.AutoSAN && c.ServerName != "":
		v.host = c.ServerName
	}
	if t.KeyLog.wants(raw) {
		c.KeyLogWriter = t.KeyLog
	}
	c.VerifyConnection = v.verify
	return c
}

// context returns what handshakes use now.
func (t *UpstreamTLS) context(st *TLSStats) (*clientContext, error) {
	return t.contexts.get(st, func(cc *clientContext) bool { return cc.same(&t.TLS) }, t.build)
}

func (t *UpstreamTLS) build() (*clientContext, error) {
	s, err := t.read()
	if err != nil {
		return nil, err
	}
	cc := &clientContext{secrets: s, config: t.config()}
	if cc.rules, err = newRules(s.validation, x509.ExtKeyUsageServerAuth); err != nil {
		return nil, err
	}
	c := cc.config
	c.InsecureSkipVerify = true // VerifyConnection does what is configured, which may be nothing, as in Envoy
	if t.Renegotiation {
		c.Renegotiation = tls.RenegotiateFreelyAsClient
	}
	if t.MaxSessions > 0 {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(t.MaxSessions)
	}
	if len(s.certs) > 0 {
		pair := s.certs[0].Pair()
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return cc, nil
}
