package dnsfilter_test

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

type obj = map[string]any

// cases are queries and what is answered: the code, then the records, sorted. here is
// what mecha answers where that is not what Envoy does.
var cases = []struct {
	name, query, want, here string
}{
	{"addresses", "v4.test A", "RCodeSuccess 1.2.3.4/300 1.2.3.5/300", ""},
	{"case counts", "V4.test A", "RCodeSuccess 5.6.7.8/300", "RCodeSuccess 5.6.7.8/77"},
	{"IPv6, and a TTL", "v6.test AAAA", "RCodeSuccess 2001::1/30", ""},
	{"one family of two", "both.test A", "RCodeSuccess 1.1.1.1/300", ""},
	{"no address of the family", "v4.test AAAA", "RCodeNameError", "RCodeSuccess"},
	{"other types", "v4.test TXT", "RCodeNotImplemented", ""},
	{"wildcard", "x.y.wild.test A", "RCodeSuccess 9.9.9.9/300", ""},
	{"longer wildcard", "x.a.wild.test A", "RCodeSuccess 9.9.9.8/300", ""},
	{"not the wildcard itself", "wild.test A", "RCodeSuccess 5.6.7.8/300", "RCodeSuccess 5.6.7.8/77"},
	{"cluster", "cl.test A", "RCodeSuccess 127.0.0.7/300 127.0.0.8/300", ""},
	{"no cluster", "clnone.test A", "RCodeSuccess 5.6.7.8/300", "RCodeSuccess 5.6.7.8/77"},
	{"no service", "_ftp._tcp.svc.test SRV", "RCodeNameError", ""},
	{"service", "_http._tcp.svc.test SRV", "RCodeNameError", "RCodeSuccess c:8080:2:20/60 v4.test:80:1:10/60"},
	{"outside", "www.ext.org A", "RCodeSuccess 5.6.7.8/300", "RCodeSuccess 5.6.7.8/77"},
	{"outside, no address of the family", "www.ext.org AAAA", "RCodeNameError", "RCodeSuccess"},
	{"outside, no such name", "nx.ext.org A", "RCodeNameError", "RCodeSuccess"},
	{"outside, a failure", "fail.ext.org A", "RCodeNameError", "RCodeServerFailure"},
	{"class", "v4.test CH", "RCodeFormatError", ""},
}

func play(t *testing.T, envoy bool) {
	port, admin := ports.Free(t), ports.Free(t)
	raw, err := json.Marshal(config(port, admin, outside(t)))
	if err != nil {
		t.Fatal(err)
	}
	var p *dialogue.Proxy
	if envoy {
		p = dialogue.StartEnvoy(t, raw, fmt.Sprintf("127.0.0.1:%d", admin))
	} else {
		p = dialogue.StartMecha(t, raw)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want := c.want
			if !envoy && c.here != "" {
				want = c.here
			}
			if got := ask(t, port, c.query); got != want {
				t.Errorf("%s is answered %q, want %q", c.query, got, want)
			}
		})
	}
	m := exchange(t, port, pack(t, "many.test A", 0))
	if len(m.Answers) != 8 || m.Truncated {
		t.Errorf("%d answers of 60, truncated %v", len(m.Answers), m.Truncated)
	}
	p.WaitStat(t, "dns_filter.test.downstream_rx_queries", fmt.Sprint(len(cases)+1))
	p.WaitStat(t, "dns_filter.test.downstream_rx_invalid_queries", "1")
}

func TestQueries(t *testing.T) { play(t, false) }

func address(ip string, port int, protocol string) obj {
	return obj{"socket_address": obj{"address": ip, "port_value": port, "protocol": protocol}}
}

func config(port, admin, upstream int) obj {
	list := func(name string, addrs ...string) obj {
		return obj{"name": name, "endpoint": obj{"address_list": obj{"address": addrs}}}
	}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("10.0.0.%d", i+1))
	}
	v6 := list("v6.test", "2001::1")
	v6["answer_ttl"] = "30s"
	host := func(ip string, port int) obj { return obj{"endpoint": obj{"address": address(ip, port, "TCP")}} }
	return obj{
		"admin": obj{"address": address("127.0.0.1", admin, "TCP")},
		"static_resources": obj{
			"listeners": []any{obj{"name": "dns", "address": address("127.0.0.1", port, "UDP"), "listener_filters": []any{obj{
				"name": "dns", "typed_config": obj{
					"@type": "type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig", "stat_prefix": "test",
					"server_config": obj{"inline_dns_table": obj{"external_retry_count": 1, "virtual_domains": []any{
						list("v4.test", "1.2.3.4", "1.2.3.5"), v6, list("both.test", "1.1.1.1", "2001::2"), list("many.test", many...),
						list("*.wild.test", "9.9.9.9"), list("*.a.wild.test", "9.9.9.8"),
						obj{"name": "cl.test", "endpoint": obj{"cluster_name": "c"}},
						obj{"name": "clnone.test", "endpoint": obj{"cluster_name": "none"}},
						obj{"name": "svc.test", "endpoint": obj{"service_list": obj{"services": []any{obj{
							"service_name": "http", "protocol": obj{"name": "tcp"}, "ttl": "60s", "targets": []any{
								obj{"host_name": "v4.test", "priority": 1, "weight": 10, "port": 80},
								obj{"cluster_name": "c", "priority": 2, "weight": 20},
							},
						}}}}},
					}}},
					"client_config": obj{"resolver_timeout": "1s", "max_pending_lookups": 8, "typed_dns_resolver_config": obj{
						"name": "cares", "typed_config": obj{
							"@type":     "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
							"resolvers": []any{address("127.0.0.1", upstream, "UDP")},
						},
					}},
				},
			}}}},
			"clusters": []any{obj{"name": "c", "type": "STATIC", "load_assignment": obj{"cluster_name": "c", "endpoints": []any{
				obj{"lb_endpoints": []any{host("127.0.0.7", 8080), host("127.0.0.8", 8081)}},
			}}}},
		},
	}
}

// outside is a DNS server: every name has one IPv4 address, nx.* does not exist, and
// fail.* fails.
func outside(t *testing.T) int {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			q := m.Questions[0]
			switch name := q.Name.String(); {
			case strings.HasPrefix(name, "nx."):
				m.RCode = dnsmessage.RCodeNameError
			case strings.HasPrefix(name, "fail."):
				m.RCode = dnsmessage.RCodeServerFailure
			case q.Type == dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 77}, Body: &dnsmessage.AResource{A: [4]byte{5, 6, 7, 8}},
				}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = c.WriteToUDPAddrPort(out, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).Port
}

var types = map[string]dnsmessage.Type{"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "TXT": dnsmessage.TypeTXT, "SRV": dnsmessage.TypeSRV, "CH": dnsmessage.TypeA}

func pack(t *testing.T, query string, edns int) []byte {
	t.Helper()
	name, kind, _ := strings.Cut(query, " ")
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711, RecursionDesired: true}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(name + "."), Type: types[kind], Class: dnsmessage.ClassINET,
	}}}
	if kind == "CH" {
		m.Questions[0].Class = dnsmessage.ClassCHAOS
	}
	if edns > 0 {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(edns, dnsmessage.RCodeSuccess, false); err != nil {
			t.Fatal(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func exchange(t *testing.T, port int, query []byte) dnsmessage.Message {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(query); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(b[:n]); err != nil {
		t.Fatal(err)
	}
	if m.ID != 4711 || !m.Response {
		t.Errorf("header %+v", m.Header)
	}
	return m
}

func ask(t *testing.T, port int, query string) string {
	t.Helper()
	m := exchange(t, port, pack(t, query, 0))
	var out []string
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, fmt.Sprintf("%v/%d", net.IP(b.A[:]), a.Header.TTL))
		case *dnsmessage.AAAAResource:
			out = append(out, fmt.Sprintf("%v/%d", net.IP(b.AAAA[:]), a.Header.TTL))
		case *dnsmessage.SRVResource:
			out = append(out, fmt.Sprintf("%s:%d:%d:%d/%d", strings.TrimSuffix(b.Target.String(), "."), b.Port, b.Priority, b.Weight, a.Header.TTL))
		}
	}
	slices.Sort(out)
	return strings.Join(append([]string{m.RCode.String()}, out...), " ")
}
