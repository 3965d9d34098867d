package fromproto

import (
	"errors"
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

// URLTarget is the URL that text says, for any stream; ok is false where it is no absolute URL
// of http or https.
func URLTarget(text string) func(*filter.Stream) (scheme, host, path string, ok bool) {
	l, ok := route.ParseLocation(text)
	return func(*filter.Stream) (scheme, host, path string, _ bool) { return l.Scheme, l.Host, l.Path, ok }
}

// RedirectTarget converts a RedirectAction to what gives the URL that it makes of that of a
// stream's request, as parts that are lent until the response head is reset.
func RedirectTarget(pb *routev3.RedirectAction, p *filter.Parser) (func(*filter.Stream) (scheme, host, path string, ok bool), error) {
	switch {
	case pb.GetPrefixRewrite() != "":
		return nil, filter.At("prefix_rewrite", errors.New("is not supported here: there is no route whose prefix it could take the place of"))
	case pb.GetRegexRewrite() != nil:
		return nil, filter.At("regex_rewrite", errors.New("is not supported here"))
	}
	a, err := redirect(pb, p)
	if err != nil {
		return nil, err
	}
	return func(s *filter.Stream) (scheme, host, path string, ok bool) {
		l, ok := route.ParseLocation(a.Location(s))
		return l.Scheme, l.Host, l.Path, ok
	}, nil
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
