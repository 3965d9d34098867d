package customresponse

import (
	"errors"
	"fmt"

	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/custom_response/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/custom_response/local_response_policy/v3"
	redirectv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/custom_response/redirect_policy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// parse decodes envoy.extensions.filters.http.custom_response.v3.CustomResponse.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb customv3.CustomResponse
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	c := &Config{}
	if pb.CustomResponseMatcher == nil {
		return c, nil
	}
	var err error
	c.Policies, err = fromproto.Tree(pb.CustomResponseMatcher, p, fromproto.TreeOptions[*filter.Stream, policy]{
		Input: fromproto.HTTPInput,
		Action: func(_ string, c filter.Any) (policy, error) {
			out, err := policyOf(c, p)
			return out, filter.At("typed_config", err)
		},
	})
	return c, filter.At("custom_response_matcher", err)
}

func policyOf(c filter.Any, p *filter.Parser) (policy, error) {
	switch c.Type {
	case "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy":
		return localOf(c.Value, p)
	case "envoy.extensions.http.custom_response.redirect_policy.v3.RedirectPolicy":
		return redirectOf(c.Value, p)
	}
	return nil, fmt.Errorf("this build has no policy of the type %q", c.Type)
}

// maxBody is how long the body of a local response may be.
const maxBody = 1 << 20

func localOf(raw []byte, p *filter.Parser) (policy, error) {
	var pb localv3.LocalResponsePolicy
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"body", "body_format", "status_code", "response_headers_to_add", "preserve_response_code_details", "response_code_details",
	}})
	if err != nil {
		return nil, err
	}
	out := &local{details: pb.GetResponseCodeDetails(), keepDetails: pb.GetPreserveResponseCodeDetails()}
	if pb.Body != nil {
		if out.body, err = fromproto.Bytes(pb.Body, maxBody); err != nil {
			return nil, filter.At("body", err)
		}
	}
	if pb.BodyFormat != nil {
		if out.format, err = fromproto.Format(pb.BodyFormat); err != nil {
			return nil, filter.At("body_format", err)
		}
	}
	if out.code, err = statusCode(pb.StatusCode, 599); err != nil {
		return nil, err
	}
	out.headers, err = fromproto.Mutations(mutate.Response, pb.ResponseHeadersToAdd, nil)
	return out, err
}

func statusCode(pb *wrapperspb.UInt32Value, most uint32) (int, error) {
	if pb != nil && (pb.Value < 200 || pb.Value > most) {
		return 0, filter.At("status_code", fmt.Errorf("%d is outside 200 to %d", pb.Value, most))
	}
	return int(pb.GetValue()), nil
}

func redirectOf(raw []byte, p *filter.Parser) (policy, error) {
	var pb redirectv3.RedirectPolicy
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"uri", "redirect_action", "status_code", "response_headers_to_add", "request_headers_to_add",
	}})
	if err != nil {
		return nil, err
	}
	out := &redirect{}
	switch a := pb.RedirectActionSpecifier.(type) {
	case *redirectv3.RedirectPolicy_Uri:
		out.target = fromproto.URLTarget(a.Uri)
		if _, _, _, ok := out.target(nil); !ok {
			return nil, filter.At("uri", fmt.Errorf("%q is no absolute http or https URI", a.Uri))
		}
	case *redirectv3.RedirectPolicy_RedirectAction:
		if out.target, err = fromproto.RedirectTarget(a.RedirectAction, p); err != nil {
			return nil, filter.At("redirect_action", err)
		}
	default:
		return nil, errors.New("one of uri, redirect_action must be set")
	}
	if out.code, err = statusCode(pb.StatusCode, 999); err != nil {
		return nil, err
	}
	if out.request, err = fromproto.Mutations(mutate.Request, pb.RequestHeadersToAdd, nil); err == nil {
		out.response, err = fromproto.Mutations(mutate.Response, pb.ResponseHeadersToAdd, nil)
	}
	return out, err
}
