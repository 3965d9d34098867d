package oauth2

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	oauth2v3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/oauth2/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/go-jose/go-jose/v4"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// Config is the parsed configuration of the filter, or of a route; without settings, there is
// none.
type Config struct{ settings *settings }

// settings is a parsed OAuth2Config.
type settings struct {
	Token       call.HTTP
	Retries     *call.Retries
	Endpoint    endpoint
	RedirectURI *accesslog.Format
	OriginalURI *accesslog.Format // original_request_uri; nil: scheme and host
	Domains     []string          // allowed_redirect_domains, in lower case

	RedirectPath, SignoutPath              pathMatcher
	PassThrough, DenyRedirect, AllowFailed match.Headers

	ClientID    string
	Auth        auth
	Assertion   assertionSpec
	TokenSecret secret.Source[secret.Generic] // nil where Auth is tlsClient
	HMACSecret  secret.Source[secret.Generic]

	Resources     string // "&resource=..."
	EndSession    string
	PostLogout    *accesslog.Format
	NoPostLogout  bool
	ForwardBearer bool
	IDHeader      string // forward_id_token; "" is nowhere
	Preserve      bool   // preserve_authorization_header
	UseRefresh    bool
	StatPrefix    string

	Cookies                                     [cookieKinds]cookieSpec
	Domain                                      string
	Chunking                                    chunking
	Plain                                       bool // disable_token_encryption
	NoAccessCookie, NoIDCookie, NoRefreshCookie bool
	IDAsAccess                                  bool // use_access_token_expiry_for_id_token_cookie

	ExpiresIn, RefreshExpiresIn, CSRFExpiresIn, VerifierExpiresIn time.Duration
}

// endpoint is the authorization endpoint, without and with what each request adds.
type endpoint struct {
	url    string // without a query
	params []param
}

// used are the fields that the filter obeys.
var used = []string{
	"token_endpoint", "retry_policy", "authorization_endpoint", "end_session_endpoint", "post_logout_redirect_uri", "credentials",
	"redirect_uri", "redirect_path_matcher", "signout_path", "forward_bearer_token", "forward_id_token",
	"preserve_authorization_header", "pass_through_matcher", "auth_scopes", "resources", "auth_type", "use_refresh_token",
	"default_expires_in", "deny_redirect_matcher", "default_refresh_token_expires_in", "disable_id_token_set_cookie",
	"disable_access_token_set_cookie", "disable_refresh_token_set_cookie", "cookie_configs", "stat_prefix",
	"csrf_token_expires_in", "code_verifier_token_expires_in", "disable_token_encryption", "allow_failed_matcher",
	"original_request_uri", "allowed_redirect_domains", "use_access_token_expiry_for_id_token_cookie", "private_key_jwt_config",
	"token_cookie_chunking",
}

// parse decodes envoy.extensions.filters.http.oauth2.v3.OAuth2.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb oauth2v3.OAuth2
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	return config(pb.Config, p)
}

// parseRoute decodes envoy.extensions.filters.http.oauth2.v3.OAuth2PerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb oauth2v3.OAuth2PerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	return config(pb.Config, p)
}

func config(pb *oauth2v3.OAuth2Config, p *filter.Parser) (*Config, error) {
	if pb == nil {
		return &Config{}, nil
	}
	s, err := newSettings(pb, p)
	return &Config{s}, filter.At("config", err)
}

func newSettings(pb *oauth2v3.OAuth2Config, p *filter.Parser) (*settings, error) {
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: used}); err != nil {
		return nil, err
	}
	c := &settings{
		ForwardBearer: pb.ForwardBearerToken, Preserve: pb.PreserveAuthorizationHeader, StatPrefix: pb.StatPrefix,
		UseRefresh: pb.UseRefreshToken == nil || pb.UseRefreshToken.Value, Plain: pb.DisableTokenEncryption,
		NoAccessCookie: pb.DisableAccessTokenSetCookie, NoIDCookie: pb.DisableIdTokenSetCookie,
		NoRefreshCookie: pb.DisableRefreshTokenSetCookie, IDAsAccess: pb.UseAccessTokenExpiryForIdTokenCookie,
		Chunking: newChunking(pb.TokenCookieChunking),
	}
	for _, d := range pb.AllowedRedirectDomains {
		c.Domains = append(c.Domains, strings.ToLower(d))
	}
	for _, r := range pb.Resources {
		c.Resources += "&resource=" + escape(r, "")
	}
	for _, step := range []func(*oauth2v3.OAuth2Config, *filter.Parser) error{
		c.endpoints, c.credentials, c.matchers, c.formats, c.forwarding, c.durations,
	} {
		if err := step(pb, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// endpoints converts whom to ask, and where clients are sent.
func (c *settings) endpoints(pb *oauth2v3.OAuth2Config, p *filter.Parser) (err error) {
	if pb.TokenEndpoint == nil {
		return filter.At("token_endpoint", errors.New("is required"))
	}
	if c.Token, err = fromproto.HTTPURI(pb.TokenEndpoint); err != nil {
		return filter.At("token_endpoint", err)
	}
	if c.Retries, err = fromproto.Retries(pb.RetryPolicy, p); err != nil {
		return filter.At("retry_policy", err)
	}
	u, ok := parseURL(pb.AuthorizationEndpoint)
	if !ok {
		return filter.At("authorization_endpoint", fmt.Errorf("%q is no URL of http or https", pb.AuthorizationEndpoint))
	}
	path, _, _ := strings.Cut(u.path, "?")
	if path == "" {
		path = "/"
	}
	scopes := pb.AuthScopes
	if len(scopes) == 0 {
		scopes = []string{"user"}
	}
	own := []param{
		{"client_id", escape(pb.GetCredentials().GetClientId(), inQuery)}, {"response_type", "code"},
		{"scope", escape(strings.Join(scopes, " "), "")},
	}
	c.Endpoint = endpoint{url: u.scheme + "://" + u.host + path, params: parseQuery(u.path)}
	c.Endpoint.params = append(slices.DeleteFunc(c.Endpoint.params, func(p param) bool {
		_, replaced := first(own, p.name)
		return replaced
	}), own...)
	if c.EndSession = pb.EndSessionEndpoint; c.EndSession == "" {
		return nil
	}
	if _, ok := parseURL(c.EndSession); !ok {
		return filter.At("end_session_endpoint", fmt.Errorf("%q is no URL of http or https", c.EndSession))
	}
	if !slices.Contains(pb.AuthScopes, "openid") {
		return filter.At("end_session_endpoint", errors.New("needs the scope openid in auth_scopes"))
	}
	return nil
}

func (c *settings) credentials(pb *oauth2v3.OAuth2Config, p *filter.Parser) (err error) {
	cr := pb.Credentials
	c.ClientID, c.Domain = cr.ClientId, cr.CookieDomain
	if c.HMACSecret, err = fromproto.NamedGeneric(cr.GetHmacSecret(), p); err != nil {
		return filter.At("credentials.hmac_secret", err)
	}
	switch c.Auth = auth(pb.AuthType); c.Auth {
	case tlsClient:
		if cr.TokenSecret != nil {
			p.Warnings = append(p.Warnings, "OAuth2Config.credentials.token_secret has no effect with auth_type TLS_CLIENT_AUTH")
		}
	default:
		if c.TokenSecret, err = fromproto.NamedGeneric(cr.TokenSecret, p); err != nil {
			return filter.At("credentials.token_secret", err)
		}
	}
	if c.Auth == privateKey {
		if err := c.assertions(pb); err != nil {
			return filter.At("private_key_jwt_config", err)
		}
	}
	c.cookies(cr.CookieNames, pb.CookieConfigs)
	return nil
}

// assertions converts how an assertion is signed.
func (c *settings) assertions(pb *oauth2v3.OAuth2Config) (err error) {
	algorithms := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}
	j := pb.PrivateKeyJwtConfig
	c.Assertion = assertionSpec{algorithm: algorithms[j.GetSigningAlgorithm()], audience: j.GetAssertionAudience()}
	if c.Assertion.audience == "" {
		c.Assertion.audience = pb.TokenEndpoint.Uri
	}
	c.Assertion.lifetime, err = fromproto.Duration(j.GetAssertionLifetime(), time.Minute)
	return filter.At("assertion_lifetime", err)
}

func (c *settings) matchers(pb *oauth2v3.OAuth2Config, _ *filter.Parser) (err error) {
	for _, m := range []struct {
		field string
		to    *pathMatcher
		pb    *matcherv3.PathMatcher
	}{{"redirect_path_matcher", &c.RedirectPath, pb.RedirectPathMatcher}, {"signout_path", &c.SignoutPath, pb.SignoutPath}} {
		if m.to.text, err = fromproto.String(m.pb.GetPath()); err != nil {
			return filter.At(m.field, filter.At("path", err))
		}
	}
	for _, m := range []struct {
		field string
		to    *match.Headers
		pb    []*routev3.HeaderMatcher
	}{
		{"pass_through_matcher", &c.PassThrough, pb.PassThroughMatcher},
		{"deny_redirect_matcher", &c.DenyRedirect, pb.DenyRedirectMatcher},
		{"allow_failed_matcher", &c.AllowFailed, pb.AllowFailedMatcher},
	} {
		if *m.to, err = fromproto.Headers(m.field, m.pb); err != nil {
			return err
		}
	}
	return nil
}

// formats compiles what is made of a request.
func (c *settings) formats(pb *oauth2v3.OAuth2Config, _ *filter.Parser) error {
	c.NoPostLogout = pb.PostLogoutRedirectUri.GetDisabled()
	for _, f := range []struct {
		field, text string
		to          **accesslog.Format
	}{
		{"redirect_uri", pb.RedirectUri, &c.RedirectURI}, {"original_request_uri", pb.OriginalRequestUri, &c.OriginalURI},
		{"post_logout_redirect_uri.uri", pb.PostLogoutRedirectUri.GetUri(), &c.PostLogout},
	} {
		if f.text == "" {
			continue
		}
		compiled, err := accesslog.Compile(f.text)
		if err != nil {
			return filter.At(f.field, err)
		}
		*f.to = compiled
	}
	return nil
}

// forwarding converts which token goes where.
func (c *settings) forwarding(pb *oauth2v3.OAuth2Config, _ *filter.Parser) error {
	n := 0
	for _, on := range []bool{c.ForwardBearer, c.Preserve} {
		if on {
			n++
		}
	}
	if pb.ForwardIdToken != nil {
		switch c.IDHeader = match.HeaderName(pb.ForwardIdToken.Header); {
		case c.IDHeader == "authorization":
			n++
		case c.IDHeader == "" || c.IDHeader[0] == ':' || c.IDHeader == "host":
			return filter.At("forward_id_token.header", fmt.Errorf("%q cannot carry a token", pb.ForwardIdToken.Header))
		}
		for i, m := range pb.PassThroughMatcher {
			if match.HeaderName(m.Name) == c.IDHeader {
				return filter.AtIndex("pass_through_matcher", i, errors.New("cannot match on the header of forward_id_token: clients could set it"))
			}
		}
	}
	if n > 1 {
		return errors.New("only one of forward_bearer_token, preserve_authorization_header and forward_id_token can decide about authorization")
	}
	return nil
}

func (c *settings) durations(pb *oauth2v3.OAuth2Config, _ *filter.Parser) (err error) {
	for _, d := range []struct {
		field string
		to    *time.Duration
		pb    *durationpb.Duration
		def   time.Duration
	}{
		{"default_expires_in", &c.ExpiresIn, pb.DefaultExpiresIn, 0},
		{"default_refresh_token_expires_in", &c.RefreshExpiresIn, pb.DefaultRefreshTokenExpiresIn, 7 * 24 * time.Hour},
		{"csrf_token_expires_in", &c.CSRFExpiresIn, pb.CsrfTokenExpiresIn, 10 * time.Minute},
		{"code_verifier_token_expires_in", &c.VerifierExpiresIn, pb.CodeVerifierTokenExpiresIn, 10 * time.Minute},
	} {
		if *d.to, err = fromproto.Duration(d.pb, d.def); err != nil {
			return filter.At(d.field, err)
		}
	}
	return nil
}
