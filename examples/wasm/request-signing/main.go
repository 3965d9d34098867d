// Command request-signing is a Proxy-Wasm filter that signs requests, so that the service
// behind the proxy knows that they came through it as they are.
//
// The configuration is JSON: {"key_id": "k1", "secret": "...", "headers": ["date", "x-user"]}.
// The secret is at least 16 bytes long. The signature is
//
//	x-signature: keyid="k1",algorithm="hmac-sha256",headers="...",signature="BASE64"
//
// over "METHOD PATH\nHOST\n" and a line "name: value" for each of the headers. List
// content-digest among them where bodies matter, and have the service compare it: the head has
// gone before a filter sees the body. A signature that a client sends is replaced.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
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
	KeyID   string   `json:"key_id"`
	Secret  string   `json:"secret"`
	Headers []string `json:"headers"`
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	text, err := proxywasm.GetPluginConfiguration()
	if err == nil {
		err = json.Unmarshal(text, p)
	}
	if err == nil && (p.KeyID == "" || strings.ContainsAny(p.KeyID, "\"\r\n") || len(p.Secret) < 16) {
		err = errors.New("key_id, or a secret of at least 16 bytes, is missing")
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

const header = "x-signature"

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	var text strings.Builder
	for _, part := range [...]struct{ name, end string }{{":method", " "}, {":path", "\n"}, {":authority", "\n"}} {
		value, err := proxywasm.GetHttpRequestHeader(part.name)
		if err != nil {
			return refuse(err)
		}
		text.WriteString(value + part.end)
	}
	for _, name := range s.plugin.Headers {
		value, err := proxywasm.GetHttpRequestHeader(name)
		if err != nil && !errors.Is(err, types.ErrorStatusNotFound) {
			return refuse(err)
		}
		text.WriteString(strings.ToLower(name) + ": " + value + "\n")
	}
	mac := hmac.New(sha256.New, []byte(s.plugin.Secret))
	mac.Write([]byte(text.String()))
	signature := `keyid="` + s.plugin.KeyID + `",algorithm="hmac-sha256",headers="` + strings.ToLower(strings.Join(s.plugin.Headers, " ")) +
		`",signature="` + base64.StdEncoding.EncodeToString(mac.Sum(nil)) + `"`
	if err := proxywasm.ReplaceHttpRequestHeader(header, signature); err != nil {
		return refuse(err)
	}
	return types.ActionContinue
}

// refuse answers a request that cannot be signed.
func refuse(why error) types.Action {
	proxywasm.LogErrorf("request-signing: %v", why)
	if err := proxywasm.SendHttpResponse(500, nil, nil, -1); err != nil {
		proxywasm.LogErrorf("request-signing: %v", err)
	}
	return types.ActionPause
}
