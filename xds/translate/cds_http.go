package translate

import (
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

func clusterHTTP(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	spec.HTTP = cluster.HTTPOptions{IdleTimeout: time.Hour, MaxHeadersCount: 100, MaxHeadersKB: 80}
	spec.HTTP.MaxRequests = pb.GetMaxRequestsPerConnection().GetValue() //nolint:staticcheck // deprecated, still sent
	if err := commonHTTP(pb.GetCommonHttpProtocolOptions(), spec); err != nil {
		return filter.At("common_http_protocol_options", err)
	}
	http1(pb.GetHttpProtocolOptions(), spec)
	for key, a := range pb.TypedExtensionProtocolOptions {
		at := fmt.Sprintf("typed_extension_protocol_options[%s]", key)
		c, err := fromproto.Any(a)
		if err != nil {
			return filter.At(at, err)
		}
		if c.Type != httpOptions {
			return filter.At(at, fmt.Errorf("this build does not support %q", c.Type))
		}
		if err := httpProtocolOptions(c.Value, spec, p); err != nil {
			return filter.At(at, err)
		}
	}
	return nil
}

func httpProtocolOptions(raw []byte, spec *cluster.Spec, p *filter.Parser) error {
	var o httpv3.HttpProtocolOptions
	if err := fromproto.Unmarshal(raw, &o); err != nil {
		return err
	}
	err := fromproto.Check(&o, p, fromproto.Fields{
		Used:    []string{"common_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config", "auto_config"},
		Ignored: []string{"upstream_http_protocol_options"},
	})
	if err != nil {
		return err
	}
	if err := commonHTTP(o.CommonHttpProtocolOptions, spec); err != nil {
		return filter.At("common_http_protocol_options", err)
	}
	if e := o.GetExplicitHttpConfig(); e != nil {
		if e.GetHttp2ProtocolOptions() != nil || e.GetHttp3ProtocolOptions() != nil {
			return filter.At("explicit_http_config", errors.New("this build speaks HTTP/1 to hosts only"))
		}
		http1(e.GetHttpProtocolOptions(), spec)
	}
	http1(o.GetUseDownstreamProtocolConfig().GetHttpProtocolOptions(), spec)
	http1(o.GetAutoConfig().GetHttpProtocolOptions(), spec)
	return nil
}

func commonHTTP(c *corev3.HttpProtocolOptions, spec *cluster.Spec) error {
	if c == nil {
		return nil
	}
	for _, d := range []struct {
		path string
		pb   *durationpb.Duration
		into *time.Duration
	}{
		{"idle_timeout", c.IdleTimeout, &spec.HTTP.IdleTimeout},
		{"max_connection_duration", c.MaxConnectionDuration, &spec.HTTP.MaxConnDuration},
		{"max_stream_duration", c.MaxStreamDuration, &spec.HTTP.MaxStreamDuration},
	} {
		if d.pb == nil {
			continue
		}
		if d.pb.AsDuration() < 0 {
			return filter.At(d.path, fmt.Errorf("%v is negative", d.pb.AsDuration()))
		}
		*d.into = d.pb.AsDuration()
	}
	if v := c.MaxHeadersCount; v != nil {
		spec.HTTP.MaxHeadersCount = v.Value
	}
	if v := c.MaxResponseHeadersKb; v != nil {
		spec.HTTP.MaxHeadersKB = v.Value
	}
	if v := c.MaxRequestsPerConnection; v != nil {
		spec.HTTP.MaxRequests = v.Value
	}
	return nil
}

func http1(o *corev3.Http1ProtocolOptions, spec *cluster.Spec) {
	if o == nil {
		return
	}
	spec.HTTP.EnableTrailers = o.EnableTrailers
	spec.HTTP.ProperCase = o.HeaderKeyFormat.GetProperCaseWords() != nil
}
