package fromproto

import (
	"errors"
	"fmt"
	"os"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// defaultFetchTimeout is initial_fetch_timeout where it is not set.
const defaultFetchTimeout = 15 * time.Second

// ConfigSource reads where a resource comes from: ADS, or a file, which must exist.
func ConfigSource(c *corev3.ConfigSource) (out filter.ConfigSource, err error) {
	out.Timeout = defaultFetchTimeout
	if t := c.GetInitialFetchTimeout(); t != nil {
		out.Timeout = t.AsDuration()
	}
	switch s := c.GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads, *corev3.ConfigSource_Self:
		return out, nil
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
		return out, fmt.Errorf("this build supports ads and path_config_source, not %T", s)
	}
}
