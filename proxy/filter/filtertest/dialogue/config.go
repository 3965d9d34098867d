package dialogue

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// site is where one case takes place: its listener, upstream servers and log.
type site struct {
	c       *Case
	address string // of the listener
	logFile string
	servers map[string]*upstream // by cluster: "up", "other"
	tcp     bool                 // the chain ends in tcp_proxy
	dial    func() (net.Conn, error)
	set     *settings
	pki     *pki // nil unless a case of the run needs it

	mu      sync.Mutex
	configs map[string]*tls.Config // of TLS, so that sessions are resumed
}

// Names that configurations may use: $up and $other are clusters of recording upstream
// servers, $closed refuses connections, $empty has no host, $service is the server of the
// Subject; $files is its folder; $name is the case's, $log the
// file of its access log, $cel(...)$ the message of an expression. $certs is the folder of the run's certificates, $hash(NAME) and
// $spki(NAME) are pins of one.
func (s *site) vars(text string) string {
	text = expressions(text)
	if s.pki != nil {
		text = strings.NewReplacer(s.pki.vars...).Replace(text)
	}
	return strings.NewReplacer("$name", s.c.Name, "$up", s.cluster("up"), "$other", s.cluster("other"),
		"$closed", s.cluster("closed"), "$empty", s.cluster("empty"), "$service", s.cluster("service"), "$files", s.c.Subject.Files, "$port", s.port(), "$log", cmp.Or(s.logFile, os.DevNull)).Replace(text)
}

func (s *site) cluster(name string) string { return s.c.Name + "-" + name }

func (s *site) port() string {
	_, port, _ := net.SplitHostPort(s.address)
	return port
}

// settings is what the configuration of a case may say.
type settings struct {
	HCM          map[string]any `yaml:"hcm"`           // merged over the connection manager
	Routes       []any          `yaml:"routes"`        // of the only virtual host
	VirtualHosts []any          `yaml:"virtual_hosts"` // in place of it
	RouteConfig  map[string]any `yaml:"route_config"`  // merged over the route configuration
	HTTPFilters  []any          `yaml:"http_filters"`  // before the router
	Filter       map[string]any `yaml:"filter"`        // configuration of the filter under test, before those
	Overrides    map[string]any `yaml:"overrides"`     // its configuration for a path
	Router       map[string]any `yaml:"router"`        // merged over the router's configuration
	TCP          map[string]any `yaml:"tcp"`           // merged over a tcp_proxy, which takes the connection manager's place
	Listener     map[string]any `yaml:"listener"`      // merged over the listener
	Up           map[string]any `yaml:"up"`            // merged over the cluster $up
	Other        map[string]any `yaml:"other"`
	Hosts        int            `yaml:"hosts"`    // of $up; 1 unless given
	Refusing     int            `yaml:"refusing"` // hosts of $up, before those, that refuse connections
	Runtime      map[string]any `yaml:"runtime"`  // keys and their values, for all cases of the run
	// Secrets are generic secrets by name, for all cases of the run, beside those that are
	// always there: token-secret and hmac-secret.
	Secrets map[string]string `yaml:"secrets"`

	TLS     map[string]any       `yaml:"tls"`     // DownstreamTlsContext of the chain
	UpTLS   *endpoint            `yaml:"up_tls"`  // what $up's hosts do; the cluster's context is in up
	Client  *endpoint            `yaml:"client"`  // what clients do
	Clients map[string]*endpoint `yaml:"clients"` // in place of it, by connection
	Chain   map[string]any       `yaml:"chain"`   // merged over the filter chain
}

func (c *Case) settings(vars func(string) string) (settings, error) {
	s := settings{Hosts: 1}
	d := yaml.NewDecoder(strings.NewReader(vars(c.Config)))
	d.KnownFields(true)
	if strings.TrimSpace(c.Config) == "" {
		return s, nil
	}
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("%s:%d: config: %w", c.File, c.Line, err)
	}
	return s, nil
}

// merge puts over into base: maps key by key, everything else as a whole.
func merge(base, over map[string]any) map[string]any {
	for k, v := range over {
		b, isMap := base[k].(map[string]any)
		o, alsoMap := v.(map[string]any)
		if isMap && alsoMap {
			base[k] = merge(b, o)
		} else {
			base[k] = v
		}
	}
	return base
}

type object = map[string]any

func typed(name string, fields object) object {
	fields["@type"] = "type.googleapis.com/" + name
	return fields
}

func socket(address string) object {
	host, port, _ := net.SplitHostPort(address)
	return object{"socket_address": object{"address": host, "port_value": json.Number(port)}}
}

// logFormat shows what a client cannot see. The log of a tcp_proxy has no codes.
func (s *site) accessLog() []any {
	if s.logFile == "" {
		return []any{}
	}
	format := "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%\n"
	if s.tcp {
		format = "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT%\n"
	}
	return []any{object{"name": "file", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", object{
		"path": s.logFile, "log_format": object{"text_format_source": object{"inline_string": format}},
	})}}
}

// listener is the configuration of the case's listener.
func (s *site) listener(set *settings) object {
	chain := s.manager(set)
	if s.tcp {
		chain = object{"name": "tcp", "typed_config": merge(typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", object{
			"stat_prefix": s.c.Name, "cluster": s.cluster("up"), "access_log": s.accessLog(),
		}), set.TCP)}
	}
	filterChain := object{"filters": []any{chain}}
	if set.TLS != nil {
		filterChain["transport_socket"] = object{"name": "tls", "typed_config": typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", set.TLS)}
	}
	return merge(object{
		"name": s.c.Name, "address": socket(s.address),
		"filter_chains": []any{merge(filterChain, set.Chain)},
	}, set.Listener)
}

func (s *site) manager(set *settings) object {
	hosts := set.VirtualHosts
	if hosts == nil {
		routes := set.Routes
		if routes == nil {
			routes = append(s.overrides(set), object{"match": object{"prefix": "/"}, "route": object{"cluster": s.cluster("up")}})
		}
		hosts = []any{object{"name": "all", "domains": []any{"*"}, "routes": routes}}
	}
	var filters []any
	about := s.c.Subject
	switch {
	case about.Base != nil:
		filters = append(filters, object{"name": about.Name, "typed_config": typed(about.Type, merge(about.Base(s.c.Name), set.Filter))})
	case set.Filter != nil:
		filters = append(filters, object{"name": about.Name, "typed_config": typed(about.Type, set.Filter)})
	}
	filters = append(append(filters, set.HTTPFilters...), object{
		"name":         "envoy.filters.http.router",
		"typed_config": merge(typed("envoy.extensions.filters.http.router.v3.Router", object{}), set.Router),
	})
	return object{"name": "hcm", "typed_config": merge(
		typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", object{
			"stat_prefix": s.c.Name, "delayed_close_timeout": "0.1s", "access_log": s.accessLog(),
			"route_config": merge(object{"name": s.c.Name, "virtual_hosts": hosts}, set.RouteConfig), "http_filters": filters,
		}), set.HCM)}
}

// overrides are the routes on which the filter under test has another configuration.
func (s *site) overrides(set *settings) (routes []any) {
	for _, path := range slices.Sorted(maps.Keys(set.Overrides)) {
		own, _ := set.Overrides[path].(object)
		config := typed(s.c.Subject.RouteType, object{})
		if own["disabled"] == true {
			config = typed("envoy.config.route.v3.FilterConfig", object{})
		}
		routes = append(routes, object{
			"match": object{"prefix": path}, "route": object{"cluster": s.cluster("up")},
			"typed_per_filter_config": object{s.c.Subject.Name: merge(config, own)},
		})
	}
	return routes
}

// clusters are the configurations of the case's clusters.
func (s *site) clusters(set *settings) []any {
	ip, _, _ := net.SplitHostPort(s.address)
	out := []any{
		s.clusterOf("closed", nil, ip+":1"), // nothing listens on port 1 of an address that is this run's alone
		s.clusterOf("empty", nil),
	}
	if strings.Contains(s.c.Config, "$service") {
		out = append(out, s.service())
	}
	over := map[string]object{"up": set.Up, "other": set.Other}
	for name, srv := range s.servers {
		addresses := srv.addresses()
		for i := range set.Refusing {
			if name == "up" {
				addresses = append([]string{fmt.Sprintf("%s:%d", ip, i+1)}, addresses...)
			}
		}
		out = append(out, s.clusterOf(name, over[name], addresses...))
	}
	return out
}

// service is the cluster $service, which speaks HTTP/2.
func (s *site) service() object {
	over := object{"typed_extension_protocol_options": object{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", object{
			"explicit_http_config": object{"http2_protocol_options": object{}},
		}),
	}}
	if s.c.Subject.Service == "" {
		return s.clusterOf("service", over)
	}
	return s.clusterOf("service", over, s.c.Subject.Service)
}

func (s *site) clusterOf(name string, over object, addresses ...string) object {
	hosts := []any{}
	for _, a := range addresses {
		hosts = append(hosts, object{"endpoint": object{"address": socket(a)}})
	}
	c := object{
		"name": s.cluster(name), "type": "STATIC", "connect_timeout": "10s",
		"load_assignment": object{"cluster_name": s.cluster(name), "endpoints": []any{object{"lb_endpoints": hosts}}},
	}
	return merge(c, over)
}

// newSite opens what a case needs. ip is the address of this run's listeners.
func newSite(c *Case, address, dir string, certs *pki) (*site, *settings, error) {
	s := &site{c: c, pki: certs, address: address, logFile: filepath.Join(dir, c.Name+".log"), servers: map[string]*upstream{}}
	s.dial = func() (net.Conn, error) { return net.DialTimeout("tcp", address, patience) }
	set, err := c.settings(s.vars)
	if err != nil {
		return nil, nil, err
	}
	s.tcp, s.set = set.TCP != nil, &set
	for name, n := range map[string]int{"up": set.Hosts, "other": 1} {
		if s.servers[name], err = newUpstream(n); err != nil {
			s.close()
			return nil, nil, err
		}
	}
	return s, &set, nil
}

func (s *site) close() {
	for _, srv := range s.servers {
		srv.close()
	}
}

// bootstrapOf is the configuration of a proxy that serves all sites.
func bootstrapOf(sites []*site, sets []*settings, admin string) ([]byte, error) {
	listeners, clusters, values, secrets := []any{}, []any{}, object{}, map[string]string{}
	for i, s := range sites {
		maps.Copy(values, sets[i].Runtime)
		maps.Copy(secrets, sets[i].Secrets)
		listeners = append(listeners, s.listener(sets[i]))
		clusters = append(clusters, s.clusters(sets[i])...)
	}
	return json.MarshalIndent(object{
		"node":             object{"id": "dialogue", "cluster": "dialogues"},
		"admin":            object{"address": socket(admin)},
		"static_resources": object{"listeners": listeners, "clusters": clusters, "secrets": secretsOf(secrets)},
		"layered_runtime":  object{"layers": []any{object{"name": "cases", "static_layer": values}, object{"name": "admin", "admin_layer": object{}}}},
	}, "", " ")
}
