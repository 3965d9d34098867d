package hcm

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l7"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// maxReplyBody is how long the body of a mapper may be.
const maxReplyBody = 1 << 20

// parseLocalReply converts local_reply_config.
func parseLocalReply(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	c := pb.LocalReplyConfig
	if c == nil {
		return nil
	}
	out := &l7.LocalReply{}
	err := fromproto.Check(c, p, fromproto.Fields{Used: []string{"mappers", "body_format"}})
	if err == nil {
		out.Format, err = replyFormat(c.BodyFormat)
		err = filter.At("body_format", err)
	}
	for i, m := range c.Mappers {
		if err != nil {
			break
		}
		var mapper l7.ReplyMapper
		mapper, err = replyMapper(m, p)
		err = filter.AtIndex("mappers", i, err)
		out.Mappers = append(out.Mappers, mapper)
	}
	spec.LocalReply = out
	return filter.At("local_reply_config", err)
}

// parseProxyStatus converts proxy_status_config.
func parseProxyStatus(pb *hcmv3.HttpConnectionManager, spec *l7.Spec, p *filter.Parser) error {
	c := pb.ProxyStatusConfig
	if c == nil {
		return nil
	}
	err := fromproto.Check(c, p, fromproto.Fields{Used: []string{
		"remove_details", "remove_connection_termination_details", "remove_response_flags",
		"set_recommended_response_code", "use_node_id", "literal_proxy_name",
	}})
	_, nodeID := c.ProxyName.(*hcmv3.HttpConnectionManager_ProxyStatusConfig_UseNodeId)
	spec.ProxyStatus = &l7.ProxyStatus{
		Name: c.GetLiteralProxyName(), NodeID: nodeID, NoDetails: c.RemoveDetails,
		NoTermination: c.RemoveConnectionTerminationDetails, NoFlags: c.RemoveResponseFlags,
		Recommended: c.SetRecommendedResponseCode,
	}
	return filter.At("proxy_status_config", err)
}

func replyMapper(pb *hcmv3.ResponseMapper, p *filter.Parser) (m l7.ReplyMapper, err error) {
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{"filter", "status_code", "body", "body_format_override", "headers_to_add"}})
	if err != nil {
		return m, err
	}
	if m.Filter, err = fromproto.LogFilter(pb.Filter); err == nil && m.Filter == nil {
		err = errors.New("is required")
	}
	if err != nil {
		return m, filter.At("filter", err)
	}
	if v := pb.StatusCode; v != nil {
		if v.Value < 200 || v.Value > 599 {
			return m, filter.At("status_code", fmt.Errorf("%d is outside 200 to 599", v.Value))
		}
		m.Code = int(v.Value)
	}
	if pb.Body != nil {
		body, err := fromproto.Bytes(pb.Body, maxReplyBody)
		if err != nil {
			return m, filter.At("body", err)
		}
		m.Body = &body
	}
	if m.Format, err = replyFormat(pb.BodyFormatOverride); err != nil {
		return m, filter.At("body_format_override", err)
	}
	add, err := fromproto.Mutations(mutate.Response, pb.HeadersToAdd, nil)
	if err != nil {
		return m, err
	}
	if !add.Empty() {
		m.Headers = func(s *filter.Stream) { add.Apply(&s.Response, s) }
	}
	return m, nil
}

func replyFormat(pb *corev3.SubstitutionFormatString) (f l7.ReplyFormat, err error) {
	if pb == nil {
		return f, nil
	}
	f.ContentType = fromproto.ContentType(pb)
	f.Format, err = fromproto.Format(pb)
	return f, err
}
