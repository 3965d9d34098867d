package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/source"
)

// Load applies the static resources of a bootstrap and prepares its dynamic ones.
// Nothing is sent or listened to before Run. An error refuses the bootstrap and says
// where in it.
func (m *Manager) Load(b *bootstrapv3.Bootstrap) (*Dynamic, error) {
	d := &Dynamic{m: m, log: m.log}
	if err := d.configure(b); err != nil {
		return nil, filter.At("dynamic_resources", err)
	}
	if err := d.configureRuntime(b); err != nil {
		return nil, err
	}
	for i, s := range b.GetStaticResources().GetSecrets() {
		if err := m.staticSecret(s); err != nil {
			return nil, filter.At("static_resources", filter.AtIndex("secrets", i, err))
		}
	}
	control := controlClusters(b)
	for i, c := range b.GetStaticResources().GetClusters() {
		if control[c.Name] {
			continue // spoken to by the xDS client itself
		}
		if err := m.static(c.Name, ads.ClusterType, c); err != nil {
			return nil, filter.At("static_resources", filter.AtIndex("clusters", i, err))
		}
	}
	for i, l := range nameListeners(b.GetStaticResources().GetListeners()) {
		if err := m.static(l.Name, ads.ListenerType, l); err != nil {
			return nil, filter.At("static_resources", filter.AtIndex("listeners", i, err))
		}
	}
	return d, nil
}

// nameListeners gives the listeners of a bootstrap that have no name one, by their
// place: nothing refers to it, but people and config_dump need one.
func nameListeners(list []*listenerv3.Listener) []*listenerv3.Listener {
	taken := map[string]bool{}
	for _, l := range list {
		taken[l.Name] = true
	}
	named := slices.Clone(list)
	for i, l := range named {
		if l.Name != "" {
			continue
		}
		name := fmt.Sprintf("static_listener_%d", i)
		for taken[name] {
			name += "_"
		}
		named[i] = proto.CloneOf(l)
		named[i].Name = name
	}
	return named
}

func (m *Manager) static(name, typeURL string, msg proto.Message) error {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		return err
	}
	return m.Static(ads.Resource{Name: name, Body: &anypb.Any{TypeUrl: typeURL, Value: raw}})
}

// controlClusters are the clusters that configuration itself comes from: gRPC, that
// is HTTP/2, spoken by the xDS client and not by the data path.
func controlClusters(b *bootstrapv3.Bootstrap) map[string]bool {
	names := map[string]bool{}
	walk(b.ProtoReflect(), func(m protoreflect.Message) {
		if a, ok := m.Interface().(*corev3.ApiConfigSource); ok {
			for _, s := range a.GrpcServices {
				names[s.GetEnvoyGrpc().GetClusterName()] = true
			}
		}
	})
	return names
}

// Dynamic is the dynamic part of a bootstrap.
type Dynamic struct {
	m       *Manager
	log     *slog.Logger
	client  *ads.Client // nil without ADS
	files   []*wholeFile
	sources Sources

	layers     []string // of the runtime, by RTDS
	layersFrom map[string]filter.ConfigSource
}

// Client returns the ADS client, nil without ADS.
func (d *Dynamic) Client() *ads.Client { return d.client }

func (d *Dynamic) configure(b *bootstrapv3.Bootstrap) (err error) {
	dyn := b.GetDynamicResources()
	d.m.streams.bootstrap = b
	d.m.lastGood.node = b.GetNode().GetCluster() + "/" + b.GetNode().GetId()
	switch {
	case dyn.GetCdsResourcesLocator() != "":
		return filter.At("cds_resources_locator", errors.New("this build does not support xdstp"))
	case dyn.GetLdsResourcesLocator() != "":
		return filter.At("lds_resources_locator", errors.New("this build does not support xdstp"))
	}
	if a := dyn.GetAdsConfig(); a != nil {
		cfg, err := clientConfig(b, a)
		if err != nil {
			return filter.At("ads_config", err)
		}
		cfg.Handler, cfg.Logger = d.m, d.log
		if d.client, err = ads.New(cfg); err != nil {
			return filter.At("ads_config", err)
		}
		d.m.mu.Lock()
		d.m.ads, d.m.adsDelta = d.client, cfg.Variant == ads.Delta
		d.m.mu.Unlock()
	}
	if d.sources.Clusters, err = d.source(dyn.GetCdsConfig(), ads.ClusterType); err != nil {
		return filter.At("cds_config", err)
	}
	if d.sources.Listeners, err = d.source(dyn.GetLdsConfig(), ads.ListenerType); err != nil {
		return filter.At("lds_config", err)
	}
	return nil
}

func (d *Dynamic) configureRuntime(b *bootstrapv3.Bootstrap) (err error) {
	if d.layers, d.layersFrom, err = runtimeLayers(b); err != nil {
		return err
	}
	for _, n := range d.layers {
		from := d.layersFrom[n]
		if from.Path == "" && from.API == "" && d.client == nil {
			return filter.At("layered_runtime", fmt.Errorf("rtds_layer %q: there is no ads_config", n))
		}
		if err := d.m.streams.check(ads.RuntimeType, from.API); err != nil {
			return filter.At("layered_runtime", fmt.Errorf("rtds_layer %q: %w", n, err))
		}
	}
	return nil
}

// source makes the source that a ConfigSource names; nil stays nil.
func (d *Dynamic) source(c *corev3.ConfigSource, typeURL string) (*Source, error) {
	if c == nil {
		return nil, nil
	}
	from, err := fromproto.ConfigSource(c)
	switch {
	case err != nil:
		return nil, err
	case from.Path != "":
		f, err := source.Open(source.Config{Path: from.Path, WatchedDirectory: from.Watched, TypeURL: typeURL, Handler: d.m, Logger: d.log})
		if err != nil {
			return nil, filter.At("path_config_source.path", err)
		}
		w := &wholeFile{File: f, wanted: make(chan struct{})}
		d.files = append(d.files, w)
		return &Source{w, from.Timeout}, nil
	case from.API != "":
		if err := d.m.streams.check(typeURL, from.API); err != nil {
			return nil, err
		}
		return &Source{subscriber{&d.m.streams, streamKey{typeURL, from.API}}, from.Timeout}, nil
	case d.client == nil:
		return nil, filter.At("ads", errors.New("there is no ads_config"))
	}
	return &Source{d.client, from.Timeout}, nil
}

// unreachable reports whether connecting to a control plane has failed.
func (d *Dynamic) unreachable() bool {
	failed := d.client != nil && d.client.Stats().Disconnects > 0
	d.m.streams.each(func(typeURL string, c *ads.Client) {
		failed = failed || typeURL != ads.SecretType && c.Stats().Disconnects > 0
	})
	return failed
}

// wholeFile is a file with all resources of a type. It is read from the first
// subscription on, since listeners are not wanted before the clusters are warm.
type wholeFile struct {
	*source.File
	once   sync.Once
	wanted chan struct{}
}

// Subscribe implements Subscriber.
func (w *wholeFile) Subscribe(string, time.Duration, ...string) {
	w.once.Do(func() { close(w.wanted) })
}

// Unsubscribe implements Subscriber.
func (w *wholeFile) Unsubscribe(string, ...string) {}

func (w *wholeFile) run(ctx context.Context) error {
	select {
	case <-w.wanted:
		return w.File.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// Run keeps the dynamic resources up to date until ctx ends.
func (d *Dynamic) Run(ctx context.Context) error {
	d.m.run()
	defer d.m.stop()
	d.m.startRuntime(d.layers, d.layersFrom, func() { d.m.Start(d.sources) })
	errs := make(chan error, len(d.files)+3)
	n := len(d.files) + 2
	go d.m.watchStart(ctx, d.unreachable)
	go func() { errs <- d.m.watchRuntime(ctx) }()
	go func() { errs <- d.m.watchSecrets(ctx) }()
	for _, f := range d.files {
		go func() { errs <- f.run(ctx) }()
	}
	if d.client != nil {
		n++
		go func() { errs <- d.client.Run(ctx) }()
	}
	var all error
	for range n {
		all = errors.Join(all, <-errs)
	}
	if all == nil { // streams of their own, and what follows files of single resources, go on
		<-ctx.Done()
	}
	return all
}
