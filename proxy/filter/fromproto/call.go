package fromproto

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// HTTPURI converts an HttpUri: whom to ask, and for how long to wait.
func HTTPURI(pb *corev3.HttpUri) (t call.HTTP, err error) {
	if err := Validate(pb); err != nil {
		return t, err
	}
	t.Cluster = pb.GetCluster()
	t.Authority, t.Path = call.SplitURI(pb.GetUri())
	t.Timeout, err = Duration(pb.GetTimeout(), 0)
	return t, filter.At("timeout", err)
}

// GRPCService converts a GrpcService with a cluster.
func GRPCService(pb *corev3.GrpcService, p *filter.Parser) (t call.GRPC, err error) {
	if err := Check(pb, p, Fields{Used: []string{"envoy_grpc", "google_grpc", "timeout", "initial_metadata"}}); err != nil {
		return t, err
	}
	e := pb.GetEnvoyGrpc()
	if e == nil {
		return t, errors.New("this build does not support google_grpc: name a cluster with envoy_grpc")
	}
	err = Check(e, p, Fields{Used: []string{"cluster_name", "authority", "skip_envoy_headers", "max_receive_message_length"}})
	if err != nil {
		return t, filter.At("envoy_grpc", err)
	}
	t.Cluster, t.Authority, t.Plain = e.ClusterName, e.Authority, e.SkipEnvoyHeaders
	if t.Authority == "" {
		t.Authority = e.ClusterName
	}
	t.MaxMessage = int(e.MaxReceiveMessageLength.GetValue())
	if t.Timeout, err = Duration(pb.Timeout, 0); err != nil {
		return t, filter.At("timeout", err)
	}
	t.Metadata, err = InitialMetadata("initial_metadata", pb.InitialMetadata)
	return t, err
}

// InitialMetadata converts a field that is a list of what goes with every call.
func InitialMetadata(field string, list []*corev3.HeaderValue) (out []call.Metadata, err error) {
	for i, h := range list {
		m, err := initialMetadata(h)
		if err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func initialMetadata(pb *corev3.HeaderValue) (m call.Metadata, err error) {
	m.Name = match.HeaderName(pb.GetKey())
	if m.Name == "" || m.Name[0] == ':' || m.Name == "host" {
		return m, filter.At("key", fmt.Errorf("%q cannot be set", pb.GetKey()))
	}
	value := pb.GetValue()
	if len(pb.GetRawValue()) > 0 {
		value = string(pb.GetRawValue())
	}
	f, err := accesslog.CompileText(value, accesslog.Options{OmitEmpty: true})
	if err != nil {
		return m, filter.At("value", err)
	}
	m.Value, m.Format = plainOr(f)
	return m, nil
}

// Strings converts a ListStringMatcher; nil has none.
func Strings(pb *matcherv3.ListStringMatcher) (match.Strings, error) {
	return StringList("patterns", pb.GetPatterns())
}

// StringList converts a field that is a list of StringMatchers.
func StringList(field string, list []*matcherv3.StringMatcher) (out match.Strings, err error) {
	for i, m := range list {
		s, err := String(m)
		if err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		out = append(out, s)
	}
	return out, nil
}
