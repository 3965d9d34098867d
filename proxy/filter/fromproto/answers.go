package fromproto

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

func (b *hostBuilder) direct(pb *routev3.DirectResponseAction) (*route.DirectAction, error) {
	if err := Check(pb, b.p, Fields{Used: []string{"status", "body", "body_format"}}); err != nil {
		return nil, err
	}
	d := &route.DirectAction{Code: int(pb.Status)}
	var err error
	if pb.BodyFormat != nil {
		if d.Format, err = Format(pb.BodyFormat); err != nil {
			return nil, filter.At("body_format", err)
		}
		d.ContentType = pb.BodyFormat.ContentType
	}
	if pb.Body != nil {
		d.Body, err = Bytes(pb.Body, b.bodyLimit)
	}
	return d, filter.At("body", err)
}

// redirectCodes are those of RedirectResponseCode, in the order of the enum.
var redirectCodes = [...]int{301, 302, 303, 307, 308}

func redirect(pb *routev3.RedirectAction, p *filter.Parser) (*route.RedirectAction, error) {
	err := Check(pb, p, Fields{Used: []string{
		"https_redirect", "scheme_redirect", "host_redirect", "port_redirect", "path_redirect", "prefix_rewrite",
		"regex_rewrite", "path_rewrite", "response_code", "strip_query",
	}})
	if err != nil {
		return nil, err
	}
	if c := pb.ResponseCode; c < 0 || int(c) >= len(redirectCodes) {
		return nil, filter.At("response_code", fmt.Errorf("this build does not know %d", c))
	}
	r := &route.RedirectAction{
		Code: redirectCodes[pb.ResponseCode], Scheme: pb.GetSchemeRedirect(), Host: pb.HostRedirect, Port: pb.PortRedirect,
		Path: pb.GetPathRedirect(), Prefix: pb.GetPrefixRewrite(), StripQuery: pb.StripQuery,
	}
	if pb.GetHttpsRedirect() {
		r.Scheme = "https"
	}
	if re := pb.GetRegexRewrite(); re != nil {
		r.RegexRewrite, err = Substitution(re)
		return r, filter.At("regex_rewrite", err)
	}
	r.PathFormat, err = valueFormat(pb.GetPathRewrite())
	return r, filter.At("path_rewrite", err)
}
