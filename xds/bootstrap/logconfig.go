package bootstrap

import (
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/mecha-mesh/mecha/proxy/applog"
)

// LogFormat compiles the line format that application_log_config asks for. ok
// is false when the bootstrap has none.
func LogFormat(b *bootstrapv3.Bootstrap) (f applog.Format, ok bool, err error) {
	lf := b.GetApplicationLogConfig().GetLogFormat()
	const path = "application_log_config.log_format"
	switch {
	case lf.GetJsonFormat() != nil:
		f, err = applog.ParseJSONFormat(lf.GetJsonFormat().AsMap())
	case lf.GetTextFormat() != "":
		f, err = applog.ParsePattern(lf.GetTextFormat())
	default:
		return applog.Format{}, false, nil
	}
	if err != nil {
		return applog.Format{}, false, refuse("", 0, path, "%v", err)
	}
	return f, true, nil
}
