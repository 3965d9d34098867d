package fromproto

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	templatematchv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	templaterewritev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/rewrite/uri_template/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
)

const (
	templateMatch   = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
	templateRewrite = "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig"
)

// PathTemplate converts a path_match_policy.
func PathTemplate(pb *corev3.TypedExtensionConfig) (*match.Template, error) {
	c, err := Any(pb.GetTypedConfig())
	if err == nil && c.Type != templateMatch {
		err = fmt.Errorf("this build does not support the path matcher %q", c.Type)
	}
	if err != nil {
		return nil, filter.At("typed_config", err)
	}
	var m templatematchv3.UriTemplateMatchConfig
	if err := Unmarshal(c.Value, &m); err != nil {
		return nil, filter.At("typed_config", err)
	}
	t, err := match.ParseTemplate(m.PathTemplate)
	return t, filter.At("typed_config.path_template", err)
}

// templateRewriter converts a path_rewrite_policy of a route whose paths match from; nil:
// they match something else.
func templateRewriter(pb *corev3.TypedExtensionConfig, from *match.Template) (*match.TemplateRewrite, error) {
	c, err := Any(pb.GetTypedConfig())
	if err == nil && c.Type != templateRewrite {
		err = fmt.Errorf("this build does not support the path rewrite policy %q", c.Type)
	}
	if err != nil {
		return nil, filter.At("typed_config", err)
	}
	var m templaterewritev3.UriTemplateRewriteConfig
	if err := Unmarshal(c.Value, &m); err != nil {
		return nil, filter.At("typed_config", err)
	}
	if from == nil {
		return nil, errors.New("needs path_match_policy in the match of the route")
	}
	r, err := match.NewTemplateRewrite(from, m.PathTemplateRewrite)
	return r, filter.At("typed_config.path_template_rewrite", err)
}
