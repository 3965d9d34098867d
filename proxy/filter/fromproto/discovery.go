package fromproto

import (
	"errors"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// HTTPDiscovery reads the config_discovery of an HTTP filter. What it returns is its
// default_config, nil without one; the reference is noted in p.
func HTTPDiscovery(name string, d *corev3.ExtensionConfigSource, p *filter.Parser) (filter.HTTPFactory, error) {
	return discovery(name, filter.HTTPExtension, d, p, (*filter.Parser).HTTP)
}

// NetworkDiscovery reads the config_discovery of a network filter.
func NetworkDiscovery(name string, d *corev3.ExtensionConfigSource, p *filter.Parser) (filter.NetworkFactory, error) {
	return discovery(name, filter.NetworkExtension, d, p, (*filter.Parser).Network)
}

// ListenerDiscovery reads the config_discovery of a listener filter.
func ListenerDiscovery(name string, d *corev3.ExtensionConfigSource, p *filter.Parser) (filter.ListenerFactory, error) {
	return discovery(name, filter.ListenerExtension, d, p, (*filter.Parser).Listener)
}

func discovery[F any](name string, kind filter.ExtensionKind, d *corev3.ExtensionConfigSource, p *filter.Parser, parse func(*filter.Parser, filter.Any) (F, error)) (def F, err error) {
	if err := Validate(d); err != nil {
		return def, err
	}
	if err := ResourceName(name); err != nil {
		return def, err
	}
	x := filter.Extension{ExtensionKey: filter.ExtensionKey{Kind: kind, Name: name}, NoWarming: d.ApplyDefaultConfigWithoutWarming}
	if x.From, err = ConfigSource(d.ConfigSource); err != nil {
		return def, filter.At("config_source", err)
	}
	x.From.StatPrefix = string(kind)
	for _, url := range d.TypeUrls {
		x.Types = append(x.Types, TypeName(url))
	}
	if len(x.Types) == 0 {
		return def, filter.At("type_urls", errors.New("needs at least one item"))
	}
	switch {
	case d.DefaultConfig != nil:
		c, err := Any(d.DefaultConfig)
		if err == nil && !slices.Contains(x.Types, c.Type) {
			err = fmt.Errorf("has the type %q, which type_urls does not list", c.Type)
		}
		if err == nil {
			def, err = parse(p, c)
		}
		if err != nil {
			return def, filter.At("default_config", err)
		}
	case d.ApplyDefaultConfigWithoutWarming:
		return def, filter.At("default_config", errors.New("is required with apply_default_config_without_warming"))
	}
	p.Extensions = append(p.Extensions, x)
	return def, nil
}

// ExtensionConfig reads a TypedExtensionConfig that came over ECDS as the factory of a
// kind of filter.
func ExtensionConfig(raw []byte, x filter.Extension, p *filter.Parser) (factory any, err error) {
	var pb corev3.TypedExtensionConfig
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	c, err := Any(pb.TypedConfig)
	if err == nil && !slices.Contains(x.Types, c.Type) {
		err = fmt.Errorf("has the type %q, expected %q", c.Type, x.Types)
	}
	if err != nil {
		return nil, filter.At("typed_config", err)
	}
	switch x.Kind {
	case filter.HTTPExtension:
		factory, err = p.HTTP(c)
	case filter.ListenerExtension:
		factory, err = p.Listener(c)
	default:
		factory, err = p.Network(c)
	}
	if err == nil && len(p.RDS)+len(p.Extensions) > 0 {
		err = errors.New("this build does not support a discovered filter that has route tables or filters to be discovered itself")
	}
	return factory, filter.At("typed_config", err)
}
