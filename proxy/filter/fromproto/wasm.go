package fromproto

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/wasm"
)

// WasmPlugin converts envoy.extensions.wasm.v3.PluginConfig.
func WasmPlugin(pb *wasmv3.PluginConfig, p *filter.Parser) (*wasm.Config, error) {
	if pb == nil {
		return nil, errors.New("is required")
	}
	err := Check(pb, p, Fields{Used: []string{
		"name", "root_id", "vm_config", "configuration", "fail_open", "failure_policy", "reload_config", "capability_restriction_config", "allow_on_headers_stop_iteration",
	}})
	if err != nil {
		return nil, err
	}
	c := &wasm.Config{Name: pb.Name, RootID: pb.RootId, Service: wasmService}
	if pb.AllowOnHeadersStopIteration.GetValue() {
		return nil, filter.At("allow_on_headers_stop_iteration", errors.New("this build does not show a body while its head waits"))
	}
	failOpen := pb.FailOpen //nolint:staticcheck // deprecated, and still sent
	switch {
	case failOpen && pb.FailurePolicy != wasmv3.FailurePolicy_UNSPECIFIED:
		return nil, filter.At("fail_open", errors.New("cannot be set together with failure_policy"))
	case failOpen, pb.FailurePolicy == wasmv3.FailurePolicy_FAIL_OPEN:
		c.Policy = wasm.FailOpen
	case pb.FailurePolicy == wasmv3.FailurePolicy_FAIL_RELOAD:
		c.Policy = wasm.FailReload
	}
	if c.Configuration, err = wasmBytes(pb.Configuration); err != nil {
		return nil, filter.At("configuration", err)
	}
	if pb.GetVmConfig() == nil {
		return nil, filter.At("vm_config", errors.New("is required"))
	}
	if c.VM, err = wasmVM(pb.GetVmConfig(), p); err != nil {
		return nil, filter.At("vm_config", err)
	}
	if allowed := wasmAllowed(pb.CapabilityRestrictionConfig); allowed != nil { //nolint:staticcheck // deprecated, and still sent
		c.VM.Allowed = allowed
	}
	if b := pb.ReloadConfig.GetBackoff(); b != nil {
		if c.BackOff, err = Duration(b.BaseInterval, 0); err != nil {
			return nil, filter.At("reload_config.backoff.base_interval", err)
		}
		if c.MaxBackOff, err = Duration(b.MaxInterval, 0); err != nil {
			return nil, filter.At("reload_config.backoff.max_interval", err)
		}
	}
	return c, nil
}

// wasmService reads the GrpcService that a guest calls.
func wasmService(raw []byte) (t call.GRPC, err error) {
	var pb corev3.GrpcService
	if err := Unmarshal(raw, &pb); err != nil {
		return t, err
	}
	return GRPCService(&pb, &filter.Parser{})
}

// wasmAllowed are the names of the capabilities of a guest; nil: all.
func wasmAllowed(pb *wasmv3.CapabilityRestrictionConfig) (out []string) {
	for name := range pb.GetAllowedCapabilities() {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// wasmRuntimes are the runtimes that configuration may name. All of them are the one that
// this build has.
var wasmRuntimes = []string{"", "envoy.wasm.runtime.v8", "envoy.wasm.runtime.wamr", "envoy.wasm.runtime.wasmtime"}

func wasmVM(pb *wasmv3.VmConfig, p *filter.Parser) (c wasm.VMConfig, err error) {
	err = Check(pb, p, Fields{
		Used:    []string{"vm_id", "runtime", "code", "configuration", "environment_variables", "capability_restriction_config", "nack_on_code_cache_miss"},
		Ignored: []string{"allow_precompiled"},
	})
	if err != nil {
		return c, err
	}
	if !slices.Contains(wasmRuntimes, pb.Runtime) {
		return c, filter.At("runtime", fmt.Errorf("this build does not have %q", pb.Runtime))
	}
	c = wasm.VMConfig{ID: pb.VmId, Runtime: pb.Runtime, Allowed: wasmAllowed(pb.CapabilityRestrictionConfig)}
	if c.Runtime == "" {
		c.Runtime = wasmRuntimes[1]
	}
	if c.Configuration, err = wasmBytes(pb.Configuration); err != nil {
		return c, filter.At("configuration", err)
	}
	if c.Environment, err = wasmEnvironment(pb.EnvironmentVariables); err != nil {
		return c, filter.At("environment_variables", err)
	}
	switch {
	case pb.Code.GetLocal() != nil:
		c.Code, err = Bytes(pb.Code.GetLocal(), wasm.MaxCode)
		return c, filter.At("code.local", err)
	case pb.Code.GetRemote() != nil:
		c.Remote, err = wasmRemote(pb.Code.GetRemote(), p)
		if err == nil {
			c.Remote.Refuse = pb.NackOnCodeCacheMiss
		}
		return c, filter.At("code.remote", err)
	}
	return c, filter.At("code", errors.New("is required"))
}

// wasmRemote converts where code is fetched from.
func wasmRemote(pb *corev3.RemoteDataSource, p *filter.Parser) (r *wasm.Remote, err error) {
	if err := Check(pb, p, Fields{Used: []string{"http_uri", "sha256", "retry_policy"}}); err != nil {
		return nil, err
	}
	r = &wasm.Remote{SHA256: strings.ToLower(pb.Sha256), Times: 1}
	if r.HTTP, err = HTTPURI(pb.HttpUri); err != nil {
		return nil, filter.At("http_uri", err)
	}
	if sum, err := hex.DecodeString(r.SHA256); err != nil || len(sum) != sha256.Size {
		return nil, filter.At("sha256", errors.New("is no SHA-256 in hexadecimal digits"))
	}
	retry := pb.RetryPolicy
	if err := Check(retry, p, Fields{Used: []string{"retry_back_off", "num_retries"}}); err != nil {
		return nil, filter.At("retry_policy", err)
	}
	if retry.GetNumRetries() != nil {
		r.Times = int(min(retry.NumRetries.Value, maxCallRetries))
	}
	if r.Pauses.Base, err = PositiveDuration(retry.GetRetryBackOff().GetBaseInterval(), time.Second); err != nil {
		return nil, filter.At("retry_policy.retry_back_off.base_interval", err)
	}
	if r.Pauses.Max, err = PositiveDuration(retry.GetRetryBackOff().GetMaxInterval(), 10*r.Pauses.Base); err != nil {
		return nil, filter.At("retry_policy.retry_back_off.max_interval", err)
	}
	if r.Pauses.Max < r.Pauses.Base {
		return nil, filter.At("retry_policy.retry_back_off.max_interval", fmt.Errorf("%v is less than base_interval", r.Pauses.Max))
	}
	return r, nil
}

// wasmBytes is a configuration as guests see it: texts and bytes as they are, structs as JSON, other
// messages serialised.
func wasmBytes(a *anypb.Any) (string, error) {
	if a == nil {
		return "", nil
	}
	switch TypeName(a.TypeUrl) {
	case "google.protobuf.StringValue":
		var v wrapperspb.StringValue
		err := Unmarshal(a.Value, &v)
		return v.Value, err
	case "google.protobuf.BytesValue":
		var v wrapperspb.BytesValue
		err := Unmarshal(a.Value, &v)
		return string(v.Value), err
	case "google.protobuf.Struct":
		var v structpb.Struct
		if err := Unmarshal(a.Value, &v); err != nil {
			return "", err
		}
		text, err := protojson.Marshal(&v)
		return string(text), err
	}
	return string(a.Value), nil
}

func wasmEnvironment(pb *wasmv3.EnvironmentVariables) (out []wasm.Variable, err error) {
	for _, name := range pb.GetHostEnvKeys() {
		if _, ok := pb.GetKeyValues()[name]; ok {
			return nil, fmt.Errorf("%s is in host_env_keys and in key_values", name)
		}
		if v, ok := os.LookupEnv(name); ok {
			out = append(out, wasm.Variable{Name: name, Value: v})
		}
	}
	for name, v := range pb.GetKeyValues() {
		out = append(out, wasm.Variable{Name: name, Value: v})
	}
	slices.SortFunc(out, func(a, b wasm.Variable) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
