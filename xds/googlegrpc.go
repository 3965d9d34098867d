package xds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	credentialv3 "github.com/envoyproxy/go-control-plane/envoy/config/grpc_credential/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// fileMetadata is the one plugin for call credentials that control planes use.
const fileMetadata = "envoy.grpc_credentials.file_based_metadata"

// googleGRPC adds what google_grpc says.
func googleGRPC(g *corev3.GrpcService_GoogleGrpc, cfg *ads.Config) error {
	err := fromproto.Check(g, nil, fromproto.Fields{
		Used: []string{
			"target_uri", "channel_credentials", "call_credentials", "stat_prefix", "credentials_factory_name", "channel_args",
		},
		Ignored: []string{"per_stream_buffer_limit_bytes", "config"},
	})
	if err != nil {
		return err
	}
	if g.TargetUri == "" {
		return filter.At("target_uri", errors.New("is required"))
	}
	if f := g.CredentialsFactoryName; f != "" && f != fileMetadata && f != "envoy.grpc_credentials.default" {
		return filter.At("credentials_factory_name", fmt.Errorf("this build does not support %q", f))
	}
	target := strings.TrimPrefix(strings.TrimPrefix(g.TargetUri, "dns:///"), "dns:")
	cfg.Addresses = append(cfg.Addresses, target)
	if err := channelCredentials(g.ChannelCredentials, target, cfg); err != nil {
		return filter.At("channel_credentials", err)
	}
	for i, c := range g.CallCredentials {
		creds, err := callCredentials(c)
		if err != nil {
			return filter.AtIndex("call_credentials", i, err)
		}
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithPerRPCCredentials(creds))
	}
	return filter.At("channel_args", channelArgs(g.ChannelArgs, cfg))
}

func channelCredentials(c *corev3.GrpcService_GoogleGrpc_ChannelCredentials, target string, cfg *ads.Config) error {
	switch s := c.GetCredentialSpecifier().(type) {
	case nil, *corev3.GrpcService_GoogleGrpc_ChannelCredentials_LocalCredentials:
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithTransportCredentials(insecure.NewCredentials()))
	case *corev3.GrpcService_GoogleGrpc_ChannelCredentials_SslCredentials:
		if (s.SslCredentials.CertChain == nil) != (s.SslCredentials.PrivateKey == nil) {
			return filter.At("ssl_credentials", errors.New("cert_chain and private_key belong together"))
		}
		host, _, err := net.SplitHostPort(target)
		if err != nil {
			host = target
		}
		cfg.Credentials = func() (credentials.TransportCredentials, error) { return tlsCredentials(s.SslCredentials, host) }
	default:
		return fmt.Errorf("this build does not support %T", s)
	}
	return nil
}

// tlsCredentials reads the files of ssl_credentials.
func tlsCredentials(s *corev3.GrpcService_GoogleGrpc_SslCredentials, host string) (credentials.TransportCredentials, error) {
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if s.RootCerts != nil {
		pem, err := dataSource(s.RootCerts)
		if err != nil {
			return nil, filter.At("root_certs", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(pem)) {
			return nil, filter.At("root_certs", errors.New("no certificate in it"))
		}
	}
	if s.CertChain != nil {
		chain, err := dataSource(s.CertChain)
		if err != nil {
			return nil, filter.At("cert_chain", err)
		}
		key, err := dataSource(s.PrivateKey)
		if err != nil {
			return nil, filter.At("private_key", err)
		}
		pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
		if err != nil {
			return nil, filter.At("cert_chain", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(conf), nil
}

// dataSource reads a DataSource. It is read again for each connection or stream, so that
// no directory needs to be watched.
func dataSource(d *corev3.DataSource) (string, error) {
	return fromproto.Bytes(&corev3.DataSource{Specifier: d.GetSpecifier()}, 1<<20)
}

func callCredentials(c *corev3.GrpcService_GoogleGrpc_CallCredentials) (credentials.PerRPCCredentials, error) {
	switch s := c.GetCredentialSpecifier().(type) {
	case *corev3.GrpcService_GoogleGrpc_CallCredentials_AccessToken:
		return &headerCredentials{key: "authorization", prefix: "Bearer ", source: inline(s.AccessToken)}, nil
	case *corev3.GrpcService_GoogleGrpc_CallCredentials_FromPlugin:
		if s.FromPlugin.GetName() != fileMetadata {
			return nil, filter.At("from_plugin.name", fmt.Errorf("this build does not support %q", s.FromPlugin.GetName()))
		}
		a, err := fromproto.Any(s.FromPlugin.GetTypedConfig())
		if err != nil {
			return nil, filter.At("from_plugin.typed_config", err)
		}
		var f credentialv3.FileBasedMetadataConfig
		if err := fromproto.Unmarshal(a.Value, &f); err != nil {
			return nil, filter.At("from_plugin.typed_config", err)
		}
		h := &headerCredentials{key: strings.ToLower(f.HeaderKey), prefix: f.HeaderPrefix, source: f.SecretData}
		if h.key == "" {
			h.key = "authorization"
		}
		return h, nil
	default:
		return nil, fmt.Errorf("this build does not support %T", s)
	}
}

func inline(s string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: s}}
}

// headerCredentials send a token with each stream. It is read anew for each, since
// those who write it to a file rotate it.
type headerCredentials struct {
	key, prefix string
	source      *corev3.DataSource
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (h *headerCredentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := dataSource(h.source)
	if err != nil {
		return nil, err
	}
	return map[string]string{h.key: h.prefix + strings.TrimRight(token, "\r\n")}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. A sidecar talks to
// an agent on its own host, often without TLS; the configuration decides.
func (h *headerCredentials) RequireTransportSecurity() bool { return false }

// channelArgs obeys the arguments that mean something outside Google's library.
func channelArgs(a *corev3.GrpcService_GoogleGrpc_ChannelArgs, cfg *ads.Config) error {
	var ka keepalive.ClientParameters
	for name, v := range a.GetArgs() {
		n := v.GetIntValue()
		switch name {
		case "grpc.keepalive_time_ms":
			ka.Time = milliseconds(n)
		case "grpc.keepalive_timeout_ms":
			ka.Timeout = milliseconds(n)
		case "grpc.keepalive_permit_without_calls":
			ka.PermitWithoutStream = n != 0
		case "grpc.default_authority":
			cfg.Authority = v.GetStringValue()
		case "grpc.max_receive_message_length":
			if n > 0 {
				cfg.MaxMessageBytes = int(n)
			}
		case "grpc.http2.max_pings_without_data", "grpc.http2.min_time_between_pings_ms", "grpc.initial_reconnect_backoff_ms",
			"grpc.min_reconnect_backoff_ms", "grpc.max_reconnect_backoff_ms", "grpc.enable_retries":
			// How often is decided here: one stream, and the back-off of the client.
		default:
			return fmt.Errorf("args[%q]: this build does not support it", name)
		}
	}
	if ka.Time > 0 {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithKeepaliveParams(ka))
	}
	return nil
}

func milliseconds(n int64) time.Duration {
	if n <= 0 || n > math.MaxInt32 {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// bracketed is a host as it stands before ":port".
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
