package dialogue

import (
	"strings"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// Config is a configuration to run a filter with.
type Config struct {
	Listener  string // the only one, and its stat_prefix
	Bootstrap []byte // without access logs
	Filter    []byte // of the subject, serialised
}

// Configs returns the configurations of the dialogues that configure the subject.
func Configs(about Subject, patterns ...string) ([]Config, error) {
	cases, err := Load(patterns...)
	if err != nil {
		return nil, err
	}
	var out []Config
	for _, c := range cases {
		c.Subject = about
		cfg, err := c.config()
		if err != nil {
			return nil, err
		}
		if cfg.Filter != nil {
			out = append(out, cfg)
		}
	}
	return out, nil
}

// ConfigOf is a configuration with the subject's own, given as YAML.
func ConfigOf(about Subject, yaml string) (Config, error) {
	yaml = "  filter:\n    " + strings.ReplaceAll(strings.TrimSpace(yaml), "\n", "\n    ")
	c := &Case{Name: "filter", Config: yaml, Subject: about}
	return c.config()
}

func (c *Case) config() (Config, error) {
	s := &site{c: c, address: "127.0.0.1:10001"}
	set, err := c.settings(s.vars)
	if err != nil {
		return Config{}, err
	}
	s.tcp = set.TCP != nil
	out := Config{Listener: c.Name}
	if out.Bootstrap, err = bootstrapOf([]*site{s}, []*settings{&set}, "127.0.0.1:10000"); err != nil {
		return Config{}, err
	}
	b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: string(out.Bootstrap)})
	if err != nil {
		return Config{}, err
	}
	top, err := fromproto.Any(b.StaticResources.Listeners[0].FilterChains[0].Filters[0].GetTypedConfig())
	if err != nil {
		return Config{}, err
	}
	if top.Type == c.Subject.Type {
		out.Filter = top.Value // a network filter
		return out, nil
	}
	var hcm hcmv3.HttpConnectionManager
	if s.tcp {
		return out, nil
	}
	if err := proto.Unmarshal(top.Value, &hcm); err != nil {
		return Config{}, err
	}
	for _, f := range hcm.HttpFilters {
		if a, err := fromproto.Any(f.GetTypedConfig()); err == nil && a.Type == c.Subject.Type {
			out.Filter = append([]byte{}, a.Value...)
		}
	}
	return out, nil
}
