package tlsinspector

import (
	"errors"
	"fmt"

	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// fields is what of TlsInspector this build obeys. The initial read size has no
// effect: what has arrived is read at once.
var fields = fromproto.Fields{Used: []string{
	"max_client_hello_size", "close_connection_on_client_hello_parsing_errors", "initial_read_buffer_size",
	"enable_ja3_fingerprinting", "enable_ja4_fingerprinting",
}}

// defaultMaxHello is max_client_hello_size where it is not set.
const defaultMaxHello = 16 << 10

// parseConfig decodes envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector.
func parseConfig(raw []byte, p *filter.Parser) (*Config, error) {
	var pb tlsinspectorv3.TlsInspector
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("tls_inspector: %w", err)
	}
	if err := fromproto.Check(&pb, p, fields); err != nil {
		return nil, err
	}
	c := &Config{MaxHello: defaultMaxHello, CloseOnError: pb.CloseConnectionOnClientHelloParsingErrors}
	if w := pb.MaxClientHelloSize; w != nil {
		if w.Value < 256 || w.Value > 16<<10 {
			return nil, filter.At("max_client_hello_size", fmt.Errorf("%d is outside 256 to 16384", w.Value))
		}
		c.MaxHello = int(w.Value)
	}
	if w := pb.InitialReadBufferSize; w != nil && (w.Value < 256 || w.Value > 64<<10) {
		return nil, filter.At("initial_read_buffer_size", fmt.Errorf("%d is outside 256 to 65536", w.Value))
	}
	notYet := errors.New("this build makes no TLS fingerprints")
	if pb.EnableJa3Fingerprinting.GetValue() {
		return nil, filter.At("enable_ja3_fingerprinting", notYet)
	}
	if pb.EnableJa4Fingerprinting.GetValue() {
		return nil, filter.At("enable_ja4_fingerprinting", notYet)
	}
	return c, nil
}
