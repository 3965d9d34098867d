package setfilterstate

import (
	"strings"
	"testing"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
)

func parseJSON(t *testing.T, value string) (*Config, error) {
	t.Helper()
	return parseHTTP(message.Raw(t, &httpv3.Config{}, `{"on_request_headers": [`+value+`]}`), &filter.Parser{})
}

func TestValues(t *testing.T) {
	text := func(s string) string {
		return `"format_string": {"text_format_source": {"inline_string": "` + s + `"}}`
	}
	for _, tc := range []struct{ value, key, want string }{
		{`{"object_key": "envoy.tcp_proxy.cluster", ` + text("a") + `}`, "envoy.tcp_proxy.cluster", "a"},
		{`{"object_key": "mine", "factory_key": "envoy.string", ` + text("%REQ(x)%") + `}`, "mine", "of the request"},
		{`{"object_key": "mine", "factory_key": "envoy.string", "skip_if_empty": true, ` + text("") + `}`, "mine", ""},
		{`{"object_key": "envoy.upstream.dynamic_port", ` + text("80") + `}`, "envoy.upstream.dynamic_port", "80"},
		{`{"object_key": "envoy.upstream.dynamic_port", ` + text("0") + `}`, "envoy.upstream.dynamic_port", ""},
		{`{"object_key": "envoy.network.ip", ` + text("::1") + `}`, "envoy.network.ip", "::1"},
		{`{"object_key": "envoy.network.ip", ` + text("host") + `}`, "envoy.network.ip", ""},
		{`{"object_key": "envoy.network.transport_socket.original_dst_address", ` + text("1.2.3.4:5") + `}`, "envoy.network.transport_socket.original_dst_address", "1.2.3.4:5"},
		{`{"object_key": "envoy.network.transport_socket.original_dst_address", ` + text("1.2.3.4") + `}`, "envoy.network.transport_socket.original_dst_address", ""},
	} {
		c, err := parseJSON(t, tc.value)
		if err != nil {
			t.Errorf("%s: %v", tc.value, err)
			continue
		}
		var s filter.Stream
		s.Request.Add("x", "of the request")
		if err := (&streamSetter{c: c}).OnRequestHeaders(&s, true); err != nil {
			t.Fatal(err)
		}
		if got, _ := filter.StateText(s.State.Get(tc.key)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.value, got, tc.want)
		}
	}
	for value, want := range map[string]string{
		`{` + text("a") + `}`:                                             "key",
		`{"object_key": "nobody.knows", ` + text("a") + `}`:               "object_key",
		`{"object_key": "k", "factory_key": "nobody", ` + text("a") + `}`: "factory_key",
		`{"object_key": "envoy.tcp_proxy.cluster"}`:                       "value",
	} {
		if _, err := parseJSON(t, value); err == nil || !strings.Contains(err.Error(), "on_request_headers[0]."+want) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
}
