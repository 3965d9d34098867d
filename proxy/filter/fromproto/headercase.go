package fromproto

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	casev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

const preserveCase = "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"

// HeaderCase is how the names of fields are written (Http1ProtocolOptions.HeaderKeyFormat).
type HeaderCase struct {
	Proper       bool // proper_case_words
	Preserve     bool // as they were read on the other side
	ReasonPhrase bool // with Preserve: forward_reason_phrase
	ProperOwn    bool // with Preserve: formatter_type_on_envoy_headers is PROPER_CASE
}

// HeaderKeyFormat converts header_key_format; nil is lower case.
func HeaderKeyFormat(pb *corev3.Http1ProtocolOptions_HeaderKeyFormat, p *filter.Parser) (HeaderCase, error) {
	switch f := pb.GetHeaderFormat().(type) {
	case nil:
		return HeaderCase{}, nil
	case *corev3.Http1ProtocolOptions_HeaderKeyFormat_ProperCaseWords_:
		return HeaderCase{Proper: true}, nil
	case *corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter:
		c, err := statefulFormatter(f.StatefulFormatter, p)
		return c, filter.At("stateful_formatter.typed_config", err)
	default:
		return HeaderCase{}, fmt.Errorf("this build does not support %T", f)
	}
}

func statefulFormatter(pb *corev3.TypedExtensionConfig, p *filter.Parser) (HeaderCase, error) {
	c, err := Any(pb.GetTypedConfig())
	if err != nil {
		return HeaderCase{}, err
	}
	if c.Type != preserveCase {
		return HeaderCase{}, fmt.Errorf("this build does not support the formatter %q", c.Type)
	}
	var f casev3.PreserveCaseFormatterConfig
	if err := Unmarshal(c.Value, &f); err != nil {
		return HeaderCase{}, err
	}
	err = Check(&f, p, Fields{Used: []string{"forward_reason_phrase", "formatter_type_on_envoy_headers"}})
	return HeaderCase{
		Preserve: true, ReasonPhrase: f.ForwardReasonPhrase,
		ProperOwn: f.FormatterTypeOnEnvoyHeaders == casev3.PreserveCaseFormatterConfig_PROPER_CASE,
	}, err
}
