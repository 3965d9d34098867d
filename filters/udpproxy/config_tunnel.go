package udpproxy

import (
	"errors"
	"fmt"

	udpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

const capsuleType = "envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3.FilterConfig"

var tunnelFields = fromproto.Fields{
	Used: []string{
		"proxy_host", "proxy_port", "target_host", "default_target_port", "use_post", "post_path", "retry_options",
		"headers_to_add", "buffer_options", "formatters",
	},
	// They are for session filters, of which none reads them.
	Ignored: []string{"propagate_response_headers", "propagate_response_trailers"},
}

// Of what waits for a tunnel, unless buffer_options say otherwise.
const (
	defaultBuffered    = 1024
	defaultBufferBytes = 16 << 10
	maxBuffered        = 1 << 20
	maxBufferBytes     = 64 << 20
)

// parseTunnel converts tunneling_config and the session filters, of which http_capsule is
// how a tunnel is written.
func (c *Config) parseTunnel(pb *udpproxyv3.UdpProxyConfig, p *filter.Parser) error {
	if pb.TunnelingConfig != nil {
		if err := c.tunnel(pb.TunnelingConfig, p); err != nil {
			return filter.At("tunneling_config", err)
		}
		if c.PerPacket {
			return filter.At("use_per_packet_load_balancing", errors.New("cannot be set with tunneling_config"))
		}
	}
	for i, f := range pb.SessionFilters {
		if err := c.sessionFilter(f, p); err != nil {
			return filter.AtIndex("session_filters", i, err)
		}
	}
	return nil
}

func (c *Config) sessionFilter(f *udpproxyv3.UdpProxyConfig_SessionFilter, p *filter.Parser) error {
	if err := fromproto.Check(f, p, fromproto.Fields{Used: []string{"name", "typed_config"}}); err != nil {
		return err
	}
	a, err := fromproto.Any(f.GetTypedConfig())
	switch {
	case err != nil:
	case a.Type != capsuleType:
		err = &filter.ErrUnknownType{Kind: "UDP session filter", Type: a.Type}
	case c.Tunnel == nil:
		err = errors.New("http_capsule takes tunneling_config")
	case c.Tunnel.Capsules:
		err = errors.New("there is an http_capsule already")
	default:
		c.Tunnel.Capsules = true
	}
	return filter.At("typed_config", err)
}

func (c *Config) tunnel(pb *udpproxyv3.UdpProxyConfig_UdpTunnelingConfig, p *filter.Parser) (err error) {
	if err := fromproto.Check(pb, p, tunnelFields); err != nil {
		return err
	}
	if err := fromproto.Formatters(pb.Formatters); err != nil {
		return err
	}
	t := &Tunnel{Attempts: 1, TargetPort: int(pb.DefaultTargetPort), ProxyPort: int(pb.ProxyPort.GetValue())}
	switch {
	case pb.ProxyHost == "":
		return filter.At("proxy_host", errors.New("must not be empty"))
	case pb.TargetHost == "":
		return filter.At("target_host", errors.New("must not be empty"))
	case pb.ProxyPort != nil && (t.ProxyPort < 1 || t.ProxyPort > 65535):
		return filter.At("proxy_port", fmt.Errorf("%d is outside 1 to 65535", t.ProxyPort))
	case t.TargetPort < 1 || t.TargetPort > 65535:
		return filter.At("default_target_port", fmt.Errorf("%d is outside 1 to 65535", t.TargetPort))
	case pb.PostPath != "" && !pb.UsePost:
		return filter.At("post_path", errors.New("takes use_post"))
	}
	if pb.UsePost {
		if t.Post = pb.PostPath; t.Post == "" {
			t.Post = "/"
		}
	}
	if t.Proxy, err = accesslog.Compile(pb.ProxyHost); err != nil {
		return filter.At("proxy_host", err)
	}
	if t.Target, err = accesslog.Compile(pb.TargetHost); err != nil {
		return filter.At("target_host", err)
	}
	if t.Headers, err = fromproto.Mutations(mutate.Request, pb.HeadersToAdd, nil); err != nil {
		return filter.At("headers_to_add", err)
	}
	if err := t.parseRetries(pb.RetryOptions, p); err != nil {
		return filter.At("retry_options", err)
	}
	if err := t.parseBuffer(pb.BufferOptions, p); err != nil {
		return filter.At("buffer_options", err)
	}
	c.Tunnel = t
	return nil
}

func (t *Tunnel) parseRetries(pb *udpproxyv3.UdpProxyConfig_UdpTunnelingConfig_RetryOptions, p *filter.Parser) (err error) {
	if pb == nil {
		return nil
	}
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"max_connect_attempts", "backoff_options"}}); err != nil {
		return err
	}
	if v := pb.MaxConnectAttempts; v != nil {
		t.Attempts = int(v.Value)
	}
	t.Backoff, err = fromproto.Backoff(pb.BackoffOptions)
	return filter.At("backoff_options", err)
}

func (t *Tunnel) parseBuffer(pb *udpproxyv3.UdpProxyConfig_UdpTunnelingConfig_BufferOptions, p *filter.Parser) error {
	if pb == nil {
		return nil
	}
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"max_buffered_datagrams", "max_buffered_bytes"}}); err != nil {
		return err
	}
	t.Buffered, t.BufferBytes = defaultBuffered, defaultBufferBytes
	if v := pb.MaxBufferedDatagrams; v != nil {
		t.Buffered = int(min(v.Value, maxBuffered))
	}
	if v := pb.MaxBufferedBytes; v != nil {
		t.BufferBytes = int(min(v.Value, maxBufferBytes))
	}
	return nil
}
