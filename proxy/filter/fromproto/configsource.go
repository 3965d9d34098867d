package fromproto

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// defaultFetchTimeout is initial_fetch_timeout where it is not set.
const defaultFetchTimeout = 15 * time.Second

// ConfigSource reads where a resource comes from: ADS, a stream of its own, or a file,
// which must exist.
func ConfigSource(c *corev3.ConfigSource) (out filter.ConfigSource, err error) {
	out.Timeout = defaultFetchTimeout
	if t := c.GetInitialFetchTimeout(); t != nil {
		out.Timeout = t.AsDuration()
	}
	if len(c.GetAuthorities()) > 0 {
		return out, filter.At("authorities", errors.New("this build does not support xdstp"))
	}
	switch s := c.GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads, *corev3.ConfigSource_Self:
		return out, nil
	case *corev3.ConfigSource_ApiConfigSource:
		if err := APIConfigSource(s.ApiConfigSource); err != nil {
			return out, filter.At("api_config_source", err)
		}
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.ApiConfigSource)
		out.API = string(raw)
		return out, filter.At("api_config_source", err)
	case *corev3.ConfigSource_PathConfigSource:
		out.Path, out.Watched = s.PathConfigSource.GetPath(), s.PathConfigSource.GetWatchedDirectory().GetPath()
		_, err = os.Stat(out.Path)
		return out, filter.At("path_config_source.path", err)
	case *corev3.ConfigSource_Path: //nolint:staticcheck // deprecated, and still sent
		out.Path = s.Path
		_, err = os.Stat(out.Path)
		return out, filter.At("path", err)
	case nil:
		return out, errors.New("is required")
	default:
		return out, fmt.Errorf("this build supports ads, api_config_source and path_config_source, not %T", s)
	}
}

// APIConfigSource checks what of an api_config_source can be checked without knowing
// the clusters.
func APIConfigSource(a *corev3.ApiConfigSource) error {
	err := Check(a, nil, Fields{
		Used: []string{
			"api_type", "transport_api_version", "grpc_services", "rate_limit_settings", "set_node_on_first_message_only",
		},
		Ignored: []string{"request_timeout", "refresh_delay"}, // of REST
	})
	if err != nil {
		return err
	}
	switch a.ApiType {
	case corev3.ApiConfigSource_GRPC, corev3.ApiConfigSource_DELTA_GRPC:
	case corev3.ApiConfigSource_AGGREGATED_GRPC, corev3.ApiConfigSource_AGGREGATED_DELTA_GRPC:
		return filter.At("api_type", fmt.Errorf("this build does not support xdstp, which %s is for", a.ApiType))
	default:
		return filter.At("api_type", fmt.Errorf("this build does not support %s", a.ApiType))
	}
	if len(a.GrpcServices) == 0 {
		return filter.At("grpc_services", errors.New("needs at least one item"))
	}
	return nil
}

// ResourceName refuses names of the xdstp scheme.
func ResourceName(name string) error {
	if strings.HasPrefix(name, "xdstp:") {
		return errors.New("this build does not support xdstp resource names")
	}
	return nil
}
