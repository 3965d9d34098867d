package oauth2

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// flow is one way to the authorization server and back. Its ID is in the names of the
// cookies that it needs, so that several may be under way.
type flow struct {
	id       string // 16 hexadecimal digits
	token    string // against CSRF: id.HMAC
	verifier string // of PKCE (RFC 7636)
}

// newFlow begins a flow.
func newFlow(key []byte) flow {
	id := hex.EncodeToString(random(8))
	return flow{id: id, token: id + "." + signature(key, id), verifier: encode(random(32))}
}

// genuine tells whether a token against CSRF was made here, or by who has the same key.
func genuine(key []byte, token string) bool {
	id, mac, ok := strings.Cut(token, ".")
	return ok && same(signature(key, id), mac)
}

// stateOf is the parameter state: where to go back to, and the flow.
func (f *flow) stateOf(url string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		URL    string `json:"url"`
		Token  string `json:"csrf_token"`
		FlowID string `json:"flow_id"`
	}{url, f.token, f.id})
	if err != nil {
		panic(err) // texts can be encoded
	}
	return encode([]byte(strings.TrimSuffix(b.String(), "\n")))
}

// maxState is how long the parameter state may be.
const maxState = 64 << 10

// returned is what a parameter state says. Nothing of it is to be believed yet.
type returned struct{ url, token, id string }

// readState reads the parameter state. why says what is wrong with it, in Envoy's words,
// but without what it contains.
func readState(text string) (r returned, why string) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var fields map[string]any
	if len(text) > maxState || err != nil || json.Unmarshal(raw, &fields) != nil || fields == nil {
		return r, "State query param is not a valid JSON"
	}
	url, hasURL := fields["url"]
	token, hasToken := fields["csrf_token"]
	if !hasURL || !hasToken {
		return r, "State query param does not contain url or CSRF token"
	}
	r.url, _ = url.(string)
	r.token, _ = token.(string)
	r.id, _ = fields["flow_id"].(string)
	return r, ""
}
