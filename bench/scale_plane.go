package main

import (
	"fmt"
	"net"
	"strconv"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// scalePlane serves the clusters over delta ADS to one client: everything that is asked
// for at once, and what changes as it changes.
type scalePlane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	listener net.Listener
	server   *grpc.Server
	all      map[string]map[string]proto.Message // by type and name

	mu      sync.Mutex
	version int
	push    chan []*discoveryv3.Resource // endpoints that have changed
}

func newScalePlane(n, port int) (*scalePlane, error) {
	listener, err := scaleListener(port, "ads: {}")
	if err != nil {
		return nil, err
	}
	s := &scalePlane{all: map[string]map[string]proto.Message{}, push: make(chan []*discoveryv3.Resource, 1)}
	for _, url := range []string{ads.ClusterType, ads.EndpointType, ads.ListenerType, ads.RouteType} {
		s.all[url] = map[string]proto.Message{}
	}
	for i := range n {
		c := scaleCluster(i, 0)
		c.ClusterDiscoveryType, c.LoadAssignment = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}, nil
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}}
		s.all[ads.ClusterType][c.Name] = c
		s.all[ads.EndpointType][c.Name] = scaleEndpoints(i, scalePort(false))
	}
	s.all[ads.ListenerType][listener.Name] = listener
	s.all[ads.RouteType]["routes"] = scaleRoutes(n)
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.server = grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.server, s)
	go func() { _ = s.server.Serve(s.listener) }() // ends with close
	return s, nil
}

func (s *scalePlane) close() { s.server.Stop() }

// change gives an endpoint another port.
func (s *scalePlane) change(i int) error {
	r, err := s.resource(scaleName(i), scaleEndpoints(i, scalePort(true)))
	if err == nil {
		s.push <- []*discoveryv3.Resource{r}
	}
	return err
}

func (s *scalePlane) resource(name string, m proto.Message) (*discoveryv3.Resource, error) {
	a, err := packed(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	return &discoveryv3.Resource{Name: name, Version: strconv.Itoa(s.version), Resource: a}, err
}

// DeltaAggregatedResources implements the service.
func (s *scalePlane) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	requests, failed := make(chan *discoveryv3.DeltaDiscoveryRequest), make(chan error, 1)
	go func() { // ends with the stream
		for {
			r, err := g.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- r:
			case <-g.Context().Done():
				return
			}
		}
	}()
	nonce := 0
	send := func(url string, list []*discoveryv3.Resource) error {
		nonce++
		return g.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, Nonce: strconv.Itoa(nonce), SystemVersionInfo: strconv.Itoa(nonce), Resources: list})
	}
	seen := map[string]bool{}
	for {
		select {
		case err := <-failed:
			return err
		case list := <-s.push:
			if err := send(ads.EndpointType, list); err != nil {
				return err
			}
		case r := <-requests:
			list, err := s.answer(r, !seen[r.TypeUrl])
			if err == nil && len(list) > 0 {
				err = send(r.TypeUrl, list)
			}
			if err != nil {
				return err
			}
			seen[r.TypeUrl] = true
		}
	}
}

// answer is what a request asks for.
func (s *scalePlane) answer(r *discoveryv3.DeltaDiscoveryRequest, first bool) (list []*discoveryv3.Resource, err error) {
	if r.ErrorDetail != nil {
		return nil, fmt.Errorf("refused: %s", r.ErrorDetail.Message)
	}
	names := r.ResourceNamesSubscribe
	if first && len(names) == 0 {
		for name := range s.all[r.TypeUrl] {
			names = append(names, name)
		}
	}
	for _, name := range names {
		m := s.all[r.TypeUrl][name]
		if m == nil {
			continue
		}
		res, err := s.resource(name, m)
		if err != nil {
			return nil, err
		}
		list = append(list, res)
	}
	return list, nil
}

func (s *scalePlane) bootstrap(admin int) string {
	return fmt.Sprintf(`
node: {id: bench, cluster: bench}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
static_resources:
  clusters:
  - name: xds
    connect_timeout: 5s
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}
`, admin, s.listener.Addr().(*net.TCPAddr).Port)
}
