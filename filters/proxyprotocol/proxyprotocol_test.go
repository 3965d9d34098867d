package proxyprotocol

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// bytesPeeker is a connection of which all bytes have arrived.
type bytesPeeker struct {
	b    []byte
	conn filter.Conn
}

func (p *bytesPeeker) Peek(n int) ([]byte, error) {
	if n > len(p.b) {
		return p.b, io.EOF
	}
	return p.b, nil
}

func (p *bytesPeeker) Discard(n int) error {
	if n > len(p.b) {
		return io.ErrShortBuffer
	}
	p.b = p.b[n:]
	return nil
}

func (p *bytesPeeker) Meta() *meta.Conn    { return p.conn.Meta }
func (p *bytesPeeker) Conn() *filter.Conn  { return &p.conn }
func (p *bytesPeeker) Socket() *netio.Conn { return nil }

func peekerOf(b string) *bytesPeeker {
	return &bytesPeeker{b: []byte(b), conn: filter.Conn{Meta: &meta.Conn{
		Local: meta.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}, Remote: meta.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.2:1234")},
	}}}
}

func configOf(t testing.TB, pb *proxyprotocolv3.ProxyProtocol) *Config {
	t.Helper()
	raw, err := proto.Marshal(pb)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseConfig(raw, &filter.Parser{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func inspectorOf(t testing.TB, c *Config) filter.Listener {
	t.Helper()
	f, err := newInspector(c, filter.Env{Stats: stats.NewStore()})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const head2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00"

var addresses = string([]byte{192, 0, 2, 7, 192, 0, 2, 9, 15, 160, 31, 144})

// TestExtensions: where TLVs go. Metadata cannot be seen in a dialogue: Envoy chooses no
// chain by it.
func TestExtensions(t *testing.T) {
	data := addresses + "\xea\x00\x01a" + "\xea\x00\x01b" + "\xeb\x00\x03x\xffy" + "\x01\x00\x00"
	rule := func(typ uint32, ns, key string, enc proxyprotocolv3.ProxyProtocol_KeyValuePair_ValueStringEncoding) *proxyprotocolv3.ProxyProtocol_Rule {
		return &proxyprotocolv3.ProxyProtocol_Rule{TlvType: typ, OnTlvPresent: &proxyprotocolv3.ProxyProtocol_KeyValuePair{MetadataNamespace: ns, Key: key, ValueStringEncoding: enc}}
	}
	p := peekerOf(head2 + string(rune(len(data))) + data + "rest")
	c := configOf(t, &proxyprotocolv3.ProxyProtocol{
		Rules: []*proxyprotocolv3.ProxyProtocol_Rule{
			rule(0xea, "", "k", 0), rule(0xeb, "mine", "x", proxyprotocolv3.ProxyProtocol_KeyValuePair_BASE64),
		},
		PassThroughTlvs: &corev3.ProxyProtocolPassThroughTLVs{MatchType: corev3.ProxyProtocolPassThroughTLVs_INCLUDE, TlvType: []uint32{0xea, 1}},
	})
	if err := inspectorOf(t, c).Inspect(p); err != nil {
		t.Fatal(err)
	}
	if string(p.b) != "rest" {
		t.Errorf("%q is left", p.b)
	}
	if v, _ := p.conn.Metadata.Find(namespace, "k"); v != "a" {
		t.Errorf("k is %v", v)
	}
	if v, _ := p.conn.Metadata.Find("mine", "x"); v != "eP95" {
		t.Errorf("x is %v", v)
	}
	said, _ := p.conn.State.Get(meta.ProxyProtocolKey).(*meta.ProxyProtocol)
	if said == nil || said.Source.String() != "192.0.2.7:4000" || said.Destination.String() != "192.0.2.9:8080" || len(said.TLVs) != 3 {
		t.Errorf("said %+v", said)
	}
	if m := p.conn.Meta; m.Remote.String() != "192.0.2.7:4000" || m.Local.String() != "192.0.2.9:8080" || !m.LocalRestored {
		t.Errorf("%+v", m)
	}
}

func TestSanitized(t *testing.T) {
	for in, want := range map[string]string{"a\xffb": "a!b", "\xe2\x82": "!!", "\u20ac": "\u20ac", "\uFFFD": "\uFFFD"} {
		if got := sanitized([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct {
		pb   *proxyprotocolv3.ProxyProtocol
		want string
	}{
		{&proxyprotocolv3.ProxyProtocol{DisallowedVersions: []corev3.ProxyProtocolConfig_Version{0, 1}}, "disallowed_versions: a version must remain"},
		{&proxyprotocolv3.ProxyProtocol{DisallowedVersions: []corev3.ProxyProtocolConfig_Version{7}}, "disallowed_versions"},
		{&proxyprotocolv3.ProxyProtocol{Rules: []*proxyprotocolv3.ProxyProtocol_Rule{{TlvType: 256}}}, "rules[0].tlv_type"},
		{&proxyprotocolv3.ProxyProtocol{Rules: []*proxyprotocolv3.ProxyProtocol_Rule{{TlvType: 2, OnTlvPresent: &proxyprotocolv3.ProxyProtocol_KeyValuePair{}}}}, "rules[0].on_tlv_present.key"},
	} {
		raw, _ := proto.Marshal(c.pb)
		if _, err := parseConfig(raw, &filter.Parser{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// FuzzInspect: no bytes make the filter panic, and how they arrive changes nothing.
func FuzzInspect(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.9 4000 8080\r\nrest"), false)
	f.Add([]byte("PROXY UNKNOWN\r\n"), true)
	f.Add([]byte(head2+"\x10"+addresses+"\xea\x00\x01a"), false)
	f.Add([]byte("GET / HTTP/1.1"), true)
	f.Fuzz(func(t *testing.T, b []byte, optional bool) {
		whole, v, need := parse(b, allowed{true, true})
		if v == more && need <= len(b) {
			t.Fatalf("needs %d bytes and has %d", need, len(b))
		}
		for n := range b { // what is decided early is not decided otherwise later
			h, early, _ := parse(b[:n], allowed{true, true})
			if early != more && (early != v || h.size != whole.size || h.source != whole.source) {
				t.Fatalf("after %d bytes %d, in the end %d", n, early, v)
			}
		}
		p := peekerOf(string(b))
		err := inspectorOf(t, &Config{Optional: optional, PassAll: true}).Inspect(p)
		if v == found && (err != nil || !bytes.Equal(p.b, b[whole.size:])) {
			t.Errorf("%v, %q is left", err, p.b)
		}
		if v == none && optional != (err == nil) {
			t.Errorf("%v", err)
		}
		if v == wrong && !errors.Is(err, errWrong) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x12\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) { _, _ = parseConfig(raw, &filter.Parser{}) })
}
