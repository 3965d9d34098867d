package router

import (
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// strictHeaders are the headers that strict_check_headers may name.
var strictHeaders = map[string]func(v string) bool{
	"x-envoy-upstream-rq-timeout-ms":         isNumber,
	"x-envoy-upstream-rq-per-try-timeout-ms": isNumber,
	"x-envoy-max-retries":                    isNumber,
	"x-envoy-retry-on":                       func(v string) bool { return len(route.UnknownRetryOn(v, route.HTTPConditions)) == 0 },
	"x-envoy-retry-grpc-on":                  func(v string) bool { return len(route.UnknownRetryOn(v, route.GRPCConditions)) == 0 },
}

func isNumber(v string) bool {
	_, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
	return err == nil
}

// strict refuses a request whose headers are not what they should be.
func (f *Filter) strict(s *filter.Stream) error {
	for _, name := range f.sh.config.Strict {
		v, ok := s.Request.Find(name)
		if !ok || strictHeaders[name](v) {
			continue
		}
		return &filter.Reply{
			Code: 400, Details: "request_headers_failed_strict_check{" + name + "}", Flags: meta.InvalidEnvoyRequestHeaders,
			Body: "invalid header '" + name + "' with value '" + v + "'",
		}
	}
	return nil
}
