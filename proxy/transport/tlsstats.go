package transport

import (
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// TLSStats count the handshakes of a listener or of a cluster, under "ssl." and, for
// secrets, beside it.
type TLSStats struct {
	tlsCounters
	secrets tlsSecretCounters
	scope   *stats.Scope
}

type tlsCounters struct {
	ConnectionError stats.Counter `stat:"connection_error" help:"TLS connections that failed, verification of certificates aside."`
	Handshake       stats.Counter `stat:"handshake" help:"Handshakes that succeeded."`
	SessionReused   stats.Counter `stat:"session_reused" help:"Handshakes that resumed a session."`
	NoCertificate   stats.Counter `stat:"no_certificate" help:"Handshakes in which the client showed no certificate."`
	FailNoCert      stats.Counter `stat:"fail_verify_no_cert" help:"Handshakes that failed because the client showed no certificate."`
	FailError       stats.Counter `stat:"fail_verify_error" help:"Handshakes that failed because the certificate is not from a trusted CA."`
	FailSAN         stats.Counter `stat:"fail_verify_san" help:"Handshakes that failed because no subject alternative name matched."`
	FailHash        stats.Counter `stat:"fail_verify_cert_hash" help:"Handshakes that failed because the certificate is not one of the pinned ones."`
	StapleFailed    stats.Counter `stat:"ocsp_staple_failed" help:"Handshakes that failed for lack of an OCSP response."`
	StapleOmitted   stats.Counter `stat:"ocsp_staple_omitted" help:"Handshakes without an OCSP response although one was asked for."`
	StapleResponses stats.Counter `stat:"ocsp_staple_responses" help:"Handshakes with an OCSP response."`
	StapleRequests  stats.Counter `stat:"ocsp_staple_requests" help:"Handshakes in which an OCSP response was asked for."`
	KeyUsageInvalid stats.Never   `stat:"was_key_usage_invalid" help:"0: a certificate whose key usage does not fit is refused."`
}

// tlsSecretCounters are under "server_ssl_socket_factory." or "client_ssl_socket_factory.".
type tlsSecretCounters struct {
	Update       stats.Counter `stat:"ssl_context_update_by_sds" help:"New TLS contexts because of new secrets."`
	DownNotReady stats.Counter `stat:"downstream_context_secrets_not_ready" help:"Connections refused because a secret has not come."`
	UpNotReady   stats.Counter `stat:"upstream_context_secrets_not_ready" help:"Connections not made because a secret has not come."`
}

// NewTLSStats binds counters under parent, of a listener (server) or of a cluster.
func NewTLSStats(parent *stats.Scope, server bool) *TLSStats {
	s := &TLSStats{scope: parent.Child("ssl")}
	s.scope.Bind(&s.tlsCounters)
	name := "client_ssl_socket_factory"
	if server {
		name = "server_ssl_socket_factory"
	}
	parent.Child(name).Bind(&s.secrets)
	return s
}

// lost counts a connection that TLS has ended after its handshake.
func (s *TLSStats) lost(err error) {
	if broken(err) {
		s.ConnectionError.Inc()
	}
}

// count adds to a counter whose name a handshake reveals.
func (s *TLSStats) count(kind, name string) {
	if name != "" && s.scope != nil {
		s.scope.Counter(kind+"."+name, "Handshakes by what was agreed on.").Inc()
	}
}

func (s *TLSStats) session(v, cipher, curve string) {
	s.count("versions", v)
	s.count("ciphers", cipher)
	s.count("curves", curve)
}
