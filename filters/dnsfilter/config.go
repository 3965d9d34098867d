package dnsfilter

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/dns/v3"
	dnsfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/dns_filter/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

const (
	defaultTTL     = 300
	defaultTimeout = 5 * time.Second
	// maxFile is how large a table may be.
	maxFile = 16 << 20
)

// parse decodes envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb dnsfilterv3.DnsFilterConfig
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("dns_filter: %w", err)
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"stat_prefix", "server_config", "client_config", "access_log", "case_insensitive",
	}})
	if err != nil {
		return nil, err
	}
	if pb.StatPrefix == "" {
		return nil, filter.At("stat_prefix", errors.New("must not be empty"))
	}
	c := &Config{StatPrefix: pb.StatPrefix, Table: &table{fold: pb.CaseInsensitive}}
	tries, err := c.parseServer(pb.ServerConfig, p)
	if err != nil {
		return nil, filter.At("server_config", err)
	}
	if c.External, err = parseClient(pb.ClientConfig, tries, p); err != nil {
		return nil, filter.At("client_config", err)
	}
	c.Logs, err = fromproto.AccessLogs(pb.AccessLog)
	return c, err
}

func (c *Config) parseServer(pb *dnsfilterv3.DnsFilterConfig_ServerContextConfig, p *filter.Parser) (tries int, err error) {
	switch s := pb.GetConfigSource().(type) {
	case *dnsfilterv3.DnsFilterConfig_ServerContextConfig_InlineDnsTable:
		return c.parseTable(s.InlineDnsTable, p, "inline_dns_table")
	case *dnsfilterv3.DnsFilterConfig_ServerContextConfig_ExternalDnsTable:
		text, err := external(s.ExternalDnsTable)
		if err != nil {
			return 0, filter.At("external_dns_table", err)
		}
		var t datav3.DnsTable
		if err := protojson.Unmarshal(text, &t); err != nil {
			return 0, filter.At("external_dns_table", err)
		}
		return c.parseTable(&t, p, "external_dns_table")
	}
	return 0, errors.New("inline_dns_table or external_dns_table must be set")
}

// source is a DataSource.
type source interface {
	GetFilename() string
	GetInlineBytes() []byte
	GetInlineString() string
}

func external(s source) ([]byte, error) {
	if name := s.GetFilename(); name != "" {
		st, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if st.Size() > maxFile {
			return nil, fmt.Errorf("%s has %d bytes, more than %d", name, st.Size(), maxFile)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return toJSON(text)
	}
	if b := s.GetInlineBytes(); len(b) > 0 {
		return toJSON(b)
	}
	if t := s.GetInlineString(); t != "" {
		return toJSON([]byte(t))
	}
	return nil, errors.New("filename, inline_bytes or inline_string must be set")
}

// toJSON converts YAML, which JSON is, too.
func toJSON(text []byte) ([]byte, error) {
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (c *Config) parseTable(pb *datav3.DnsTable, p *filter.Parser, field string) (tries int, err error) {
	// known_suffixes has had no effect in Envoy since it knows what is in the table.
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{"external_retry_count", "virtual_domains", "known_suffixes"}})
	if err != nil {
		return 0, filter.At(field, err)
	}
	if pb.ExternalRetryCount > 3 {
		return 0, filter.At(field, filter.At("external_retry_count", fmt.Errorf("%d is more than 3", pb.ExternalRetryCount)))
	}
	t := c.Table
	t.names, t.wild, t.services = map[string]*domain{}, map[string]*domain{}, map[string]*service{}
	for i, v := range pb.VirtualDomains {
		if err := t.add(v); err != nil {
			return 0, filter.At(field, filter.AtIndex("virtual_domains", i, err))
		}
	}
	return int(pb.ExternalRetryCount) + 1, nil
}

func (t *table) add(v *datav3.DnsTable_DnsVirtualDomain) error {
	name := strings.TrimSuffix(v.Name, ".")
	if name == "" || len(name) > 253 {
		return filter.At("name", errors.New("must be a domain name"))
	}
	ttl, err := seconds(v.AnswerTtl, 30)
	if err != nil {
		return filter.At("answer_ttl", err)
	}
	d := &domain{ttl: ttl}
	switch e := v.Endpoint.GetEndpointConfig().(type) {
	case *datav3.DnsTable_DnsEndpoint_AddressList:
		if len(e.AddressList.GetAddress()) == 0 {
			return filter.At("endpoint.address_list.address", errors.New("must not be empty"))
		}
		for i, text := range e.AddressList.Address {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" {
				return filter.At("endpoint.address_list", filter.AtIndex("address", i, fmt.Errorf("%q is not an IP address", text)))
			}
			d.addrs = append(d.addrs, a.Unmap())
		}
	case *datav3.DnsTable_DnsEndpoint_ClusterName:
		if d.cluster = e.ClusterName; d.cluster == "" {
			return filter.At("endpoint.cluster_name", errors.New("must not be empty"))
		}
	case *datav3.DnsTable_DnsEndpoint_ServiceList:
		return filter.At("endpoint.service_list", t.addServices(name, e.ServiceList))
	default:
		return filter.At("endpoint", errors.New("address_list, cluster_name or service_list must be set"))
	}
	into, key := t.names, t.key(name)
	if rest, ok := strings.CutPrefix(key, "*."); ok {
		into, key = t.wild, rest
	}
	if old := into[key]; old != nil && old.cluster == "" && d.cluster == "" {
		old.addrs = append(old.addrs, d.addrs...)
		return nil
	}
	into[key] = d
	return nil
}

func (t *table) addServices(name string, list *datav3.DnsTable_DnsServiceList) error {
	for i, s := range list.GetServices() {
		at := func(err error) error { return filter.AtIndex("services", i, err) }
		if s.ServiceName == "" {
			return at(filter.At("service_name", errors.New("must not be empty")))
		}
		proto, err := protocol(s.Protocol)
		if err != nil {
			return at(filter.At("protocol", err))
		}
		out := &service{}
		if out.ttl, err = seconds(s.Ttl, 1); err != nil {
			return at(filter.At("ttl", err))
		}
		for j, g := range s.Targets {
			if g.GetHostName() == "" && g.GetClusterName() == "" {
				return at(filter.AtIndex("targets", j, errors.New("host_name or cluster_name must be set")))
			}
			if g.Priority > 65535 || g.Weight > 65535 || g.Port > 65535 {
				return at(filter.AtIndex("targets", j, errors.New("priority, weight and port are at most 65535")))
			}
			out.targets = append(out.targets, target{
				host: strings.TrimSuffix(g.GetHostName(), "."), cluster: g.GetClusterName(),
				prio: uint16(g.Priority), weight: uint16(g.Weight), port: uint16(g.Port),
			})
		}
		if len(out.targets) == 0 {
			return at(filter.At("targets", errors.New("must not be empty")))
		}
		t.services[t.key(label(s.ServiceName)+"."+label(proto)+"."+name)] = out
	}
	return nil
}

// label puts the underscore of services and protocols in front.
func label(s string) string { return "_" + strings.TrimPrefix(s, "_") }

func protocol(pb *datav3.DnsTable_DnsServiceProtocol) (string, error) {
	if name := pb.GetName(); name != "" {
		return name, nil
	}
	switch n := pb.GetNumber(); n {
	case 6:
		return "tcp", nil
	case 17:
		return "udp", nil
	case 132:
		return "sctp", nil
	default:
		return "", fmt.Errorf("%d is none of 6 (tcp), 17 (udp), 132 (sctp); say its name", n)
	}
}

// seconds returns a TTL.
func seconds(pb *durationpb.Duration, least int64) (uint32, error) {
	if pb == nil {
		return defaultTTL, nil
	}
	if err := pb.CheckValid(); err != nil {
		return 0, err
	}
	if pb.Seconds < least || pb.Seconds > int64(maxTTL/time.Second) {
		return 0, fmt.Errorf("%v is outside %d s to a week", pb.AsDuration(), least)
	}
	return uint32(pb.Seconds), nil
}

func parseClient(pb *dnsfilterv3.DnsFilterConfig_ClientContextConfig, tries int, p *filter.Parser) (*External, error) {
	e := &External{Timeout: defaultTimeout, Pending: 256}
	if pb == nil {
		e.Options.Tries = tries
		return e, nil
	}
	err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"resolver_timeout", "upstream_resolvers", "dns_resolution_config", "typed_dns_resolver_config", "max_pending_lookups",
	}})
	if err != nil {
		return nil, err
	}
	if e.Timeout, err = fromproto.Duration(pb.ResolverTimeout, defaultTimeout); err == nil && e.Timeout < time.Second {
		err = fmt.Errorf("%v is less than 1s", e.Timeout)
	}
	if err != nil {
		return nil, filter.At("resolver_timeout", err)
	}
	if pb.MaxPendingLookups < 1 || pb.MaxPendingLookups > 65536 {
		return nil, filter.At("max_pending_lookups", fmt.Errorf("%d is outside 1 to 65536", pb.MaxPendingLookups))
	}
	e.Pending = int(pb.MaxPendingLookups)
	switch {
	case pb.TypedDnsResolverConfig != nil:
		o, err := fromproto.Resolver(pb.TypedDnsResolverConfig, p)
		if err != nil {
			return nil, filter.At("typed_dns_resolver_config", err)
		}
		e.Options = *o
	case pb.DnsResolutionConfig != nil:
		fromproto.ResolverOptions(&e.Options, pb.DnsResolutionConfig.DnsResolverOptions)
		err = filter.At("dns_resolution_config", fromproto.ResolverServers(&e.Options, pb.DnsResolutionConfig.Resolvers))
	default:
		err = filter.At("upstream_resolvers", fromproto.ResolverAddresses(&e.Options, pb.UpstreamResolvers))
	}
	if e.Options.Tries == 0 {
		e.Options.Tries = tries
	}
	if e.Options.Timeout == 0 {
		e.Options.Timeout = e.Timeout
	}
	e.Timeout *= time.Duration(tries)
	return e, err
}
