// Command claim-router is a Proxy-Wasm filter that routes by a claim of a token.
//
// The configuration is JSON: {"claim": "tenant", "header": "x-tenant", "values": ["gold", "silver"]}.
// The claim of the bearer token in authorization goes into the header, by which routes are
// chosen; one that is not among the values, or that the client has set itself, does not.
//
// The token is not verified here: put jwt_authn before the filter.
package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext
	Claim  string   `json:"claim"`
	Header string   `json:"header"`
	Values []string `json:"values"`
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	text, err := proxywasm.GetPluginConfiguration()
	if err == nil {
		err = json.Unmarshal(text, p)
	}
	if err == nil && (p.Claim == "" || p.Header == "" || len(p.Values) == 0) {
		err = errors.New("claim, header and values have to be there")
	}
	if err != nil {
		proxywasm.LogCriticalf("the configuration: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext { return &stream{plugin: p} }

type stream struct {
	types.DefaultHttpContext
	plugin *plugin
}

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	p := s.plugin
	// Whoever writes this header decides about the route: nobody but this filter does.
	if err := proxywasm.RemoveHttpRequestHeader(p.Header); err != nil {
		return refuse(err)
	}
	authorization, err := proxywasm.GetHttpRequestHeader("authorization")
	if err != nil {
		return types.ActionContinue
	}
	value := claim(authorization, p.Claim)
	if !slices.Contains(p.Values, value) {
		return types.ActionContinue
	}
	if err := proxywasm.AddHttpRequestHeader(p.Header, value); err != nil {
		return refuse(err)
	}
	return types.ActionContinue
}

// refuse answers a request whose route would be anybody's guess.
func refuse(why error) types.Action {
	proxywasm.LogErrorf("claim-router: %v", why)
	if err := proxywasm.SendHttpResponse(500, nil, nil, -1); err != nil {
		proxywasm.LogErrorf("claim-router: %v", err)
	}
	return types.ActionPause
}

// claim returns a claim of a bearer token, "" if there is none.
func claim(authorization, name string) string {
	scheme, token, _ := strings.Cut(authorization, " ")
	parts := strings.Split(token, ".")
	if !strings.EqualFold(scheme, "bearer") || len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims map[string]any
	if json.Unmarshal(text, &claims) != nil {
		return ""
	}
	value, _ := claims[name].(string)
	return value
}
