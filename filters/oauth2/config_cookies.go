package oauth2

import (
	oauth2v3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/oauth2/v3"
)

const (
	defaultCookieSize = 4096 // what browsers keep
	defaultChunks     = 8
)

// sameSite are the attributes for the values of CookieConfig.SameSite.
var sameSite = [...]string{"", ";SameSite=Strict", ";SameSite=Lax", ";SameSite=None"}

// cookies converts how cookies are called and written.
func (c *settings) cookies(names *oauth2v3.OAuth2Credentials_CookieNames, o *oauth2v3.CookieConfigs) {
	for kind, s := range [cookieKinds]struct {
		name, def string
		pb        *oauth2v3.CookieConfig
	}{
		bearerToken:  {names.GetBearerToken(), "BearerToken", o.GetBearerTokenCookieConfig()},
		oauthHMAC:    {names.GetOauthHmac(), "OauthHMAC", o.GetOauthHmacCookieConfig()},
		oauthExpires: {names.GetOauthExpires(), "OauthExpires", o.GetOauthExpiresCookieConfig()},
		idToken:      {names.GetIdToken(), "IdToken", o.GetIdTokenCookieConfig()},
		refreshToken: {names.GetRefreshToken(), "RefreshToken", o.GetRefreshTokenCookieConfig()},
		nonce:        {names.GetOauthNonce(), "OauthNonce", o.GetOauthNonceCookieConfig()},
		verifier:     {names.GetCodeVerifier(), "CodeVerifier", o.GetCodeVerifierCookieConfig()},
	} {
		spec := cookieSpec{name: s.name, path: s.pb.GetPath(), domain: c.Domain, attributes: sameSite[s.pb.GetSameSite()]}
		if spec.name == "" {
			spec.name = s.def
		}
		if spec.path == "" {
			spec.path = "/"
		}
		if s.pb.GetPartitioned() {
			spec.attributes += ";Partitioned"
		}
		c.Cookies[kind] = spec
	}
}

// newChunking converts how large cookies are; nil does not split any.
func newChunking(pb *oauth2v3.TokenCookieChunking) chunking {
	if pb == nil {
		return chunking{}
	}
	c := chunking{defaultCookieSize, defaultChunks}
	if pb.MaxCookieSize != nil {
		c.size = int(pb.MaxCookieSize.Value)
	}
	if pb.MaxChunks != nil {
		c.most = int(pb.MaxChunks.Value)
	}
	return c
}
