// Command ab-routing is a Proxy-Wasm filter for experiments: users are assigned to a variant,
// stay with it, and are routed by it.
//
// The configuration is JSON:
//
//	{"experiment": "checkout", "by": "x-user", "variants": [{"name": "a", "percent": 90}, {"name": "b", "percent": 10}]}
//
// The header named by "by" says who the user is; its hash decides, so that no state is kept
// and all proxies agree. The variant goes into x-experiment-NAME of the request, for routes
// and for the service, and of the response. Users that are not known, and what is left of the
// hundred percent, have no variant.
package main

import (
	"encoding/json"
	"errors"
	"hash/fnv"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext
	Experiment string `json:"experiment"`
	By         string `json:"by"`
	Variants   []struct {
		Name    string `json:"name"`
		Percent uint32 `json:"percent"`
	} `json:"variants"`
	assigned []proxywasm.MetricCounter // by variant
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	if err := p.configure(); err != nil {
		proxywasm.LogCriticalf("the configuration: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (p *plugin) configure() error {
	text, err := proxywasm.GetPluginConfiguration()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, p); err != nil {
		return err
	}
	if p.Experiment == "" || p.By == "" || len(p.Variants) == 0 {
		return errors.New("experiment, by and variants have to be there")
	}
	sum := uint32(0)
	for _, v := range p.Variants {
		if v.Name == "" || v.Percent > 100 {
			return errors.New("a variant has a name and up to 100 percent")
		}
		sum += v.Percent
		p.assigned = append(p.assigned, proxywasm.DefineCounterMetric("experiment."+p.Experiment+"."+v.Name))
	}
	if sum > 100 {
		return errors.New("the variants have more than 100 percent")
	}
	return nil
}

func (p *plugin) NewHttpContext(uint32) types.HttpContext { return &stream{plugin: p, variant: -1} }

// variant is the place of a user's variant, -1 if there is none.
func (p *plugin) variant(user string) int {
	h := fnv.New32a()
	h.Write([]byte(p.Experiment + "\x00" + user))
	// FNV's low bits are those that depend on all of the input.
	at := (h.Sum32() ^ h.Sum32()>>16) % 100
	for i, v := range p.Variants {
		if at < v.Percent {
			return i
		}
		at -= v.Percent
	}
	return -1
}

type stream struct {
	types.DefaultHttpContext
	plugin  *plugin
	variant int
}

func (s *stream) header() string { return "x-experiment-" + s.plugin.Experiment }

func (s *stream) OnHttpRequestHeaders(int, bool) types.Action {
	p := s.plugin
	// A variant that the client has chosen itself is no experiment.
	if err := proxywasm.RemoveHttpRequestHeader(s.header()); err != nil {
		proxywasm.LogErrorf("ab-routing: %v", err)
	}
	user, err := proxywasm.GetHttpRequestHeader(p.By)
	if err != nil || user == "" {
		return types.ActionContinue
	}
	if s.variant = p.variant(user); s.variant < 0 {
		return types.ActionContinue
	}
	p.assigned[s.variant].Increment(1)
	if err := proxywasm.AddHttpRequestHeader(s.header(), p.Variants[s.variant].Name); err != nil {
		proxywasm.LogErrorf("ab-routing: %v", err)
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseHeaders(int, bool) types.Action {
	if s.variant >= 0 {
		if err := proxywasm.AddHttpResponseHeader(s.header(), s.plugin.Variants[s.variant].Name); err != nil {
			proxywasm.LogErrorf("ab-routing: %v", err)
		}
	}
	return types.ActionContinue
}
