package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter"
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
	control := controlClusters(b)
	for i, c := range b.GetStaticResources().GetClusters() {
		if control[c.Name] {
			continue // spoken to by the xDS client itself
		}
		if err := m.static(c.Name, ads.ClusterType, c); err != nil {
			return nil, filter.At("static_resources", filter.AtIndex("clusters", i, err))
		}
	}
	for i, l := range b.GetStaticResources().GetListeners() {
		if err := m.static(l.Name, ads.ListenerType, l); err != nil {
			return nil, filter.At("static_resources", filter.AtIndex("listeners", i, err))
		}
	}
	return d, nil
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
	for _, s := range b.GetDynamicResources().GetAdsConfig().GetGrpcServices() {
		names[s.GetEnvoyGrpc().GetClusterName()] = true
	}
	return names
}

// Dynamic is the dynamic part of a bootstrap.
type Dynamic struct {
	m       *Manager
	log     *slog.Logger
	client  *ads.Client // nil without ADS
	files   []*wholeFile
	sources Sources
}

// Client returns the ADS client, nil without ADS.
func (d *Dynamic) Client() *ads.Client { return d.client }

func (d *Dynamic) configure(b *bootstrapv3.Bootstrap) (err error) {
	dyn := b.GetDynamicResources()
	if a := dyn.GetAdsConfig(); a != nil {
		if d.client, err = d.newClient(b, a); err != nil {
			return filter.At("ads_config", err)
		}
		d.m.mu.Lock()
		d.m.ads = d.client
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

// source makes the source that a ConfigSource names; nil stays nil.
func (d *Dynamic) source(c *corev3.ConfigSource, typeURL string) (*Source, error) {
	if c == nil {
		return nil, nil
	}
	timeout := ads.DefaultFetchTimeout
	if t := c.InitialFetchTimeout; t != nil {
		timeout = t.AsDuration()
	}
	switch s := c.ConfigSourceSpecifier.(type) {
	case *corev3.ConfigSource_Ads:
		if d.client == nil {
			return nil, filter.At("ads", errors.New("there is no ads_config"))
		}
		return &Source{d.client, timeout}, nil
	case *corev3.ConfigSource_PathConfigSource:
		f, err := source.Open(source.Config{
			Path: s.PathConfigSource.Path, WatchedDirectory: s.PathConfigSource.GetWatchedDirectory().GetPath(),
			TypeURL: typeURL, Handler: d.m, Logger: d.log,
		})
		if err != nil {
			return nil, filter.At("path_config_source.path", err)
		}
		w := &wholeFile{File: f, wanted: make(chan struct{})}
		d.files = append(d.files, w)
		return &Source{w, timeout}, nil
	}
	return nil, errors.New("ads or path_config_source is required")
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

func (d *Dynamic) newClient(b *bootstrapv3.Bootstrap, a *corev3.ApiConfigSource) (*ads.Client, error) {
	cfg := ads.Config{
		Node: b.Node, NodeOnFirstMessageOnly: a.SetNodeOnFirstMessageOnly, Handler: d.m, Logger: d.log,
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	}
	switch a.ApiType {
	case corev3.ApiConfigSource_GRPC, corev3.ApiConfigSource_AGGREGATED_GRPC:
	case corev3.ApiConfigSource_DELTA_GRPC, corev3.ApiConfigSource_AGGREGATED_DELTA_GRPC:
		cfg.Variant = ads.Delta
	default:
		return nil, filter.At("api_type", fmt.Errorf("this build does not support %s", a.ApiType))
	}
	for i, s := range a.GrpcServices {
		addrs, err := controlAddresses(b, s)
		if err != nil {
			return nil, filter.AtIndex("grpc_services", i, err)
		}
		cfg.Addresses = append(cfg.Addresses, addrs...)
	}
	var err error
	if cfg.Dial, err = controlDial(b, a.GrpcServices); err != nil {
		return nil, err
	}
	return ads.New(cfg)
}

// controlAddresses are the addresses of the control plane: those of the static cluster
// that envoy_grpc names, or the target of google_grpc.
func controlAddresses(b *bootstrapv3.Bootstrap, s *corev3.GrpcService) ([]string, error) {
	if g := s.GetGoogleGrpc(); g != nil {
		return []string{g.TargetUri}, nil
	}
	name := s.GetEnvoyGrpc().GetClusterName()
	for _, c := range b.GetStaticResources().GetClusters() {
		if c.Name == name {
			return clusterAddresses(c)
		}
	}
	return nil, filter.At("envoy_grpc.cluster_name", fmt.Errorf("there is no static cluster %q", name))
}

func clusterAddresses(c *clusterv3.Cluster) (out []string, err error) {
	for _, l := range c.GetLoadAssignment().GetEndpoints() {
		for _, e := range l.LbEndpoints {
			a := e.GetEndpoint().GetAddress()
			switch {
			case a.GetPipe() != nil:
				out = append(out, "unix:"+a.GetPipe().Path)
			case a.GetSocketAddress() != nil:
				out = append(out, fmt.Sprintf("%s:%d", a.GetSocketAddress().Address, a.GetSocketAddress().GetPortValue()))
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the cluster %q has no endpoints", c.Name)
	}
	return out, nil
}

// Run keeps the dynamic resources up to date until ctx ends.
func (d *Dynamic) Run(ctx context.Context) error {
	d.m.run()
	defer d.m.stop()
	d.m.Start(d.sources)
	errs := make(chan error, len(d.files)+2)
	n := len(d.files) + 1
	go func() { errs <- d.m.watchRuntime(ctx) }()
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
	return all
}
