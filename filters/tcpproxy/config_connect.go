package tcpproxy

import (
	"cmp"
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// metadataMatch converts a field of that name: of metadata, envoy.lb alone counts.
func metadataMatch(pb *corev3.Metadata) (cluster.Labels, error) {
	return cluster.NewLabels(pb.GetFilterMetadata()["envoy.lb"].AsMap()), nil
}

// parseConnect converts when the upstream connection is made and what goes with it.
func (c *Config) parseConnect(pb *tcpproxyv3.TcpProxy, p *filter.Parser) error {
	switch pb.UpstreamConnectMode {
	case tcpproxyv3.UpstreamConnectMode_IMMEDIATE:
	case tcpproxyv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA, tcpproxyv3.UpstreamConnectMode_ON_DOWNSTREAM_TLS_HANDSHAKE:
		if pb.MaxEarlyDataBytes == nil {
			return filter.At("max_early_data_bytes", fmt.Errorf("is required with upstream_connect_mode %s", pb.UpstreamConnectMode))
		}
		// A handshake is always over when a filter sees the connection.
		c.AwaitData = pb.UpstreamConnectMode == tcpproxyv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA
	default:
		return filter.At("upstream_connect_mode", fmt.Errorf("this build does not support %s", pb.UpstreamConnectMode))
	}
	for i, t := range pb.ProxyProtocolTlvs {
		tlv, err := parseTLV(t, p)
		if err != nil {
			return filter.AtIndex("proxy_protocol_tlvs", i, err)
		}
		c.TLVs = append(c.TLVs, tlv)
	}
	switch m := pb.ProxyProtocolTlvMergePolicy; m {
	case tcpproxyv3.ProxyProtocolTlvMergePolicy_ADD_IF_ABSENT:
		c.TLVMerge = AddIfAbsent
	case tcpproxyv3.ProxyProtocolTlvMergePolicy_OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD:
		c.TLVMerge = OverwriteByType
	case tcpproxyv3.ProxyProtocolTlvMergePolicy_APPEND_IF_EXISTS_OR_ADD:
		c.TLVMerge = AppendAll
	default:
		return filter.At("proxy_protocol_tlv_merge_policy", fmt.Errorf("this build does not support %s", m))
	}
	return nil
}

func parseTLV(t *corev3.TlvEntry, p *filter.Parser) (TLV, error) {
	err := fromproto.Check(t, p, fromproto.Fields{Used: []string{"type", "value", "format_string"}})
	out := TLV{Type: byte(t.Type), Value: t.Value}
	switch {
	case err != nil:
	case t.Type > 255:
		err = filter.At("type", fmt.Errorf("%d is more than 255", t.Type))
	case (len(t.Value) > 0) == (t.FormatString != nil):
		err = errors.New("one of value and format_string must be set")
	case t.FormatString != nil:
		out.Format, err = fromproto.Format(t.FormatString)
		err = filter.At("format_string", err)
	}
	return out, err
}

// parseTunnel converts tunneling_config.
func (c *Config) parseTunnel(pb *tcpproxyv3.TcpProxy, p *filter.Parser) error {
	t := pb.TunnelingConfig
	if t == nil {
		return nil
	}
	err := fromproto.Check(t, p, fromproto.Fields{
		Used: []string{
			"hostname", "headers_to_add", "propagate_response_headers", "propagate_response_trailers", "formatters",
			"use_post", "post_path",
		},
	})
	switch {
	case err != nil:
	case t.Hostname == "":
		err = filter.At("hostname", errors.New("must not be empty"))
	case t.PostPath != "" && !t.UsePost:
		err = filter.At("post_path", errors.New("takes use_post"))
	default:
		err = c.tunnel(t)
	}
	return filter.At("tunneling_config", err)
}

func (c *Config) tunnel(t *tcpproxyv3.TcpProxy_TunnelingConfig) (err error) {
	if err := fromproto.Formatters(t.Formatters); err != nil {
		return err
	}
	c.Tunnel = &Tunnel{KeepResponse: t.PropagateResponseHeaders, KeepTrailers: t.PropagateResponseTrailers}
	if t.UsePost {
		c.Tunnel.Post = cmp.Or(t.PostPath, "/")
	}
	if c.Tunnel.Hostname, err = accesslog.Compile(t.Hostname); err != nil {
		return filter.At("hostname", err)
	}
	c.Tunnel.Headers, err = fromproto.Mutations(mutate.Request, t.HeadersToAdd, nil)
	return filter.At("headers_to_add", err)
}
