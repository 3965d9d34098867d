package dnsfilter

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dnsfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/dns_filter/v3"
	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
)

func parseJSON(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return parse(message.Raw(t, &dnsfilterv3.DnsFilterConfig{}, text), &filter.Parser{})
}

func TestParseRefuses(t *testing.T) {
	table := func(domain string) string {
		return `{"stat_prefix": "p", "server_config": {"inline_dns_table": {"virtual_domains": [` + domain + `]}}}`
	}
	for text, want := range map[string]string{
		`{}`:                   "stat_prefix",
		`{"stat_prefix": "p"}`: "server_config",
		table(`{"endpoint": {"address_list": {"address": ["1.1.1.1"]}}}`): "virtual_domains[0].name",
		table(`{"name": "a"}`): "virtual_domains[0].endpoint",
		table(`{"name": "a", "endpoint": {"address_list": {"address": ["1.1.1"]}}}`):                                                                 "address_list.address[0]",
		table(`{"name": "a", "endpoint": {"address_list": {"address": ["1.1.1.1"]}}, "answer_ttl": "1s"}`):                                           "answer_ttl",
		table(`{"name": "a", "endpoint": {"service_list": {"services": [{"service_name": "s"}]}}}`):                                                  "services[0].protocol",
		`{"stat_prefix": "p", "server_config": {"external_dns_table": {"filename": "/does/not/exist"}}}`:                                             "external_dns_table",
		`{"stat_prefix": "p", "server_config": {"external_dns_table": {"inline_string": "virtual_domains: 5"}}}`:                                     "external_dns_table",
		`{"stat_prefix": "p", "server_config": {"inline_dns_table": {"external_retry_count": 4}}}`:                                                   "external_retry_count",
		`{"stat_prefix": "p", "server_config": {"inline_dns_table": {}}, "client_config": {}}`:                                                       "max_pending_lookups",
		`{"stat_prefix": "p", "server_config": {"inline_dns_table": {}}, "client_config": {"max_pending_lookups": "1", "resolver_timeout": "0.1s"}}`: "resolver_timeout",
	} {
		if _, err := parseJSON(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestExternalTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table.yaml")
	text := "virtual_domains:\n- name: a.test.\n  endpoint: {address_list: {address: [10.0.0.1]}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parseJSON(t, `{"stat_prefix": "p", "case_insensitive": true, "server_config": {"external_dns_table": {"filename": "`+file+`"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Table.find("A.Test"); d == nil || d.addrs[0] != netip.MustParseAddr("10.0.0.1") || d.ttl != 300 {
		t.Errorf("found %+v", d)
	}
}

// TestResponseFits: a response is never longer than the client has room for, and says
// so where something is missing.
func TestResponseFits(t *testing.T) {
	long := strings.Repeat("a", 60)
	for _, room := range []int{512, 1232} {
		for n := range 40 {
			q := query{size: 50, valid: true, room: room, question: dnsmessage.Question{
				Name: dnsmessage.MustNewName(long + "." + long + ".test."), Type: dnsmessage.TypeSRV, Class: dnsmessage.ClassINET,
			}}
			for i := range n {
				q.answers = append(q.answers, record{target: strings.Repeat(string(rune('a'+i%26)), 40) + "." + long, to: 80})
				q.extra = append(q.extra, record{addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})})
			}
			msg := q.pack()
			if len(msg) == 0 || len(msg) > room {
				t.Fatalf("%d answers: %d bytes in %d", n, len(msg), room)
			}
			var m dnsmessage.Message
			if err := m.Unpack(msg); err != nil {
				t.Fatal(err)
			}
			if m.Truncated != (len(m.Answers) < n) {
				t.Errorf("%d of %d answers, truncated %v", len(m.Answers), n, m.Truncated)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	raw, err := proto.Marshal(&dnsfilterv3.DnsFilterConfig{StatPrefix: "p", ServerConfig: &dnsfilterv3.DnsFilterConfig_ServerContextConfig{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var pb dnsfilterv3.DnsFilterConfig
		if proto.Unmarshal(raw, &pb) != nil || pb.GetServerConfig().GetExternalDnsTable() != nil {
			return // which may name any file
		}
		if c, err := parse(raw, &filter.Parser{}); err == nil && (c.Table == nil || c.External == nil) {
			t.Errorf("took %+v", c)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x12\x34"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		q := parseQuery(msg)
		q.addresses([]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")}, true, 5)
		out := q.pack()
		if len(msg) >= 2 && (len(out) < 12 || len(out) > maxSize || out[0] != msg[0] || out[1] != msg[1]) {
			t.Errorf("%x is answered %x", msg, out)
		}
	})
}
