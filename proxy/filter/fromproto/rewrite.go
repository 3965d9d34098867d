package fromproto

import (
	"errors"
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

func hostRewrite(a *routev3.RouteAction, f *route.ForwardAction) (err error) {
	switch h := a.HostRewriteSpecifier.(type) {
	case nil:
	case *routev3.RouteAction_HostRewriteLiteral:
		f.HostRewrite = h.HostRewriteLiteral
	case *routev3.RouteAction_AutoHostRewrite:
		f.AutoHostRewrite = h.AutoHostRewrite.GetValue()
	case *routev3.RouteAction_HostRewriteHeader:
		if h.HostRewriteHeader != "" {
			f.HostRewriteHeader = match.HeaderName(h.HostRewriteHeader)
		}
	case *routev3.RouteAction_HostRewritePathRegex:
		f.HostRewritePath, err = Substitution(h.HostRewritePathRegex)
		return filter.At("host_rewrite_path_regex", err)
	case *routev3.RouteAction_HostRewrite:
		if h.HostRewrite == "" {
			return nil
		}
		// Unlike that of a path, what is missing in a host is a dash.
		f.HostFormat, err = accesslog.CompileText(h.HostRewrite, accesslog.Options{})
		return filter.At("host_rewrite", err)
	default:
		return fmt.Errorf("this build does not support the host rewrite %T", h)
	}
	return nil
}

// valueFormat compiles a value that may contain command operators; nil if it is empty.
func valueFormat(text string) (*accesslog.Format, error) {
	if text == "" {
		return nil, nil
	}
	return accesslog.CompileText(text, accesslog.Options{OmitEmpty: true})
}

// pathRewrite converts what becomes of the path. from is the template that the route's
// paths match, nil if it matches something else.
func pathRewrite(a *routev3.RouteAction, f *route.ForwardAction, from *match.Template) (err error) {
	last, set := "", 0
	for _, w := range []struct {
		field string
		is    bool
	}{
		{"prefix_rewrite", a.PrefixRewrite != ""}, {"regex_rewrite", a.RegexRewrite != nil},
		{"path_rewrite_policy", a.PathRewritePolicy != nil}, {"path_rewrite", a.PathRewrite != ""},
	} {
		if w.is {
			last, set = w.field, set+1
		}
	}
	switch {
	case set > 1:
		return filter.At(last, errors.New("only one of prefix_rewrite, regex_rewrite, path_rewrite_policy, path_rewrite may be set"))
	case a.PrefixRewrite != "" && from != nil:
		return filter.At("prefix_rewrite", errors.New("cannot be used with path_match_policy"))
	case a.RegexRewrite != nil:
		f.RegexRewrite, err = Substitution(a.RegexRewrite)
		return filter.At("regex_rewrite", err)
	case a.PathRewritePolicy != nil:
		f.TemplateRewrite, err = templateRewriter(a.PathRewritePolicy, from)
		return filter.At("path_rewrite_policy", err)
	}
	f.PrefixRewrite = a.PrefixRewrite
	f.PathFormat, err = valueFormat(a.PathRewrite)
	return filter.At("path_rewrite", err)
}
