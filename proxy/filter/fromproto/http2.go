package fromproto

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// HTTP2 converts Http2ProtocolOptions, of either side. Nil is the default. Whether a message
// that breaks the rules ends only its stream is otherwise where the message says nothing.
func HTTP2(pb *corev3.Http2ProtocolOptions, p *filter.Parser, otherwise bool) (h2.Options, error) {
	o := h2.Options{StreamErrors: otherwise}
	if pb == nil {
		return o, nil
	}
	err := Check(pb, p, Fields{
		Used: []string{
			"hpack_table_size", "max_concurrent_streams", "initial_stream_window_size", "initial_connection_window_size",
			"allow_connect", "max_outbound_frames", "max_outbound_control_frames",
			"max_consecutive_inbound_frames_with_empty_payload", "max_inbound_priority_frames_per_stream",
			"max_inbound_window_update_frames_per_data_frame_sent", "stream_error_on_invalid_http_messaging",
			"override_stream_error_on_invalid_http_message", "custom_settings_parameters", "connection_keepalive",
			"max_header_field_size_kb",
		},
		Ignored: []string{"use_oghttp2_codec", "max_metadata_size", "enable_huffman_encoding"},
	})
	if err != nil {
		return o, err
	}
	if v := pb.HpackTableSize; v != nil {
		o.HpackTableSize = &v.Value
	}
	if v := pb.MaxConsecutiveInboundFramesWithEmptyPayload; v != nil {
		o.MaxEmptyFrames = &v.Value
	}
	if v := pb.MaxInboundPriorityFramesPerStream; v != nil {
		o.MaxPriorityPerStream = &v.Value
	}
	if v := pb.MaxInboundWindowUpdateFramesPerDataFrameSent; v != nil {
		o.MaxWindowUpdatesPerData = &v.Value
	}
	o.MaxConcurrentStreams = pb.MaxConcurrentStreams.GetValue()
	o.InitialStreamWindow = pb.InitialStreamWindowSize.GetValue()
	o.InitialConnectionWindow = pb.InitialConnectionWindowSize.GetValue()
	o.AllowConnect = pb.AllowConnect
	o.MaxOutboundFrames = pb.MaxOutboundFrames.GetValue()
	o.MaxOutboundControl = pb.MaxOutboundControlFrames.GetValue()
	o.MaxHeaderFieldKB = int(pb.MaxHeaderFieldSizeKb.GetValue())
	o.StreamErrors = o.StreamErrors || pb.StreamErrorOnInvalidHttpMessaging //nolint:staticcheck // deprecated, still sent
	if v := pb.OverrideStreamErrorOnInvalidHttpMessage; v != nil {
		o.StreamErrors = v.Value
	}
	if err := http2Settings(pb, &o); err != nil {
		return o, err
	}
	return o, filter.At("connection_keepalive", http2Keepalive(pb.ConnectionKeepalive, &o.Keepalive))
}

// The SETTINGS that have fields of their own (RFC 9113 6.5.2, RFC 8441 3).
const (
	settingTableSize     = 1
	settingPush          = 2
	settingStreams       = 3
	settingInitialWindow = 4
	settingConnect       = 8
)

// http2Settings takes custom_settings_parameters; those that have fields of their own may
// be set by either.
func http2Settings(pb *corev3.Http2ProtocolOptions, o *h2.Options) error {
	seen := map[uint32]uint32{}
	for i, s := range pb.CustomSettingsParameters {
		id, v := s.Identifier.GetValue(), s.Value.GetValue()
		refuse := func(format string, args ...any) error {
			return filter.AtIndex("custom_settings_parameters", i, fmt.Errorf(format, args...))
		}
		if old, again := seen[id]; again {
			if old != v {
				return refuse("identifier %d has two values", id)
			}
			continue
		}
		seen[id] = v
		named := false
		switch id {
		case settingTableSize:
			named, o.HpackTableSize = pb.HpackTableSize != nil, &v
		case settingPush:
			if v != 0 {
				return refuse("server push is not supported")
			}
			continue
		case settingStreams:
			named, o.MaxConcurrentStreams = pb.MaxConcurrentStreams != nil, v
		case settingInitialWindow:
			named, o.InitialStreamWindow = pb.InitialStreamWindowSize != nil, v
		case settingConnect:
			named, o.AllowConnect = pb.AllowConnect, v == 1
		default:
			o.CustomSettings = append(o.CustomSettings, h2.Setting{ID: uint16(id), Value: v})
		}
		if named {
			return refuse("identifier %d is set by a field of its own, too", id)
		}
	}
	return nil
}

func http2Keepalive(pb *corev3.KeepaliveSettings, k *h2.Keepalive) (err error) {
	if pb == nil {
		return nil
	}
	if k.Timeout, err = Duration(pb.Timeout, 0); err != nil {
		return filter.At("timeout", err)
	}
	if k.Interval, err = Duration(pb.Interval, 0); err != nil {
		return filter.At("interval", err)
	}
	if k.Idle, err = Duration(pb.ConnectionIdleInterval, 0); err != nil {
		return filter.At("connection_idle_interval", err)
	}
	if k.Interval == 0 && k.Idle == 0 {
		return errors.New("one of interval, connection_idle_interval is required")
	}
	if j := pb.IntervalJitter; j != nil {
		if !(j.Value >= 0 && j.Value <= 100) {
			return filter.At("interval_jitter", fmt.Errorf("%v is not in 0..100", j.Value))
		}
		k.Jitter = &j.Value
	}
	return nil
}
