// Package ads is an xDS client: one stream to a control plane, state of the
// world or delta, over gRPC.
//
// It has two halves. Machine is the protocol: subscriptions, versions, nonces,
// ACK and NACK, what to repeat after a reconnect. It is a pure state machine
// (state + event -> effects) with no I/O, clock, randomness or goroutine, so
// that every order of events can be tested. Client is the thin shell that moves
// bytes and keeps time for it.
//
// What is not here: the meaning of a resource. Bodies travel as they came
// (*anypb.Any) and a Handler says which it refuses. Which type may be asked for
// when (CDS before EDS before LDS before RDS) is decided by whoever subscribes.
//
// Rules follow the xDS protocol description of Envoy ("xDS REST and gRPC
// protocol"), and Envoy's own choices where that leaves room.
package ads

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
)

// Variant says how a stream carries resources.
type Variant uint8

const (
	// SotW is the state-of-the-world protocol (api_type GRPC).
	SotW Variant = iota
	// Delta is the incremental protocol (api_type DELTA_GRPC).
	Delta
)

// String is the word used in logs: "sotw" or "delta".
func (v Variant) String() string {
	if v == Delta {
		return "delta"
	}
	return "sotw"
}

// Wildcard is the name that stands for every resource of a type.
const Wildcard = "*"

// DefaultFetchTimeout is what initial_fetch_timeout means when it is unset
// (envoy.config.core.v3.ConfigSource). Zero, when set, means "wait for ever".
const DefaultFetchTimeout = 15 * time.Second

// Type URLs of the resources that a data plane asks for.
const (
	ClusterType         = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType        = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType        = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType           = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ScopedRouteType     = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
	VirtualHostType     = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
	SecretType          = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	RuntimeType         = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
	ExtensionConfigType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
)

// rank orders requests of several types that are due at once: what others
// depend on first. Types not named here come last, in order of subscription.
func rank(typeURL string) int {
	switch typeURL {
	case ClusterType:
		return 0
	case EndpointType:
		return 1
	case ListenerType:
		return 2
	case RouteType:
		return 3
	case ScopedRouteType:
		return 4
	case VirtualHostType:
		return 5
	case SecretType:
		return 6
	case RuntimeType:
		return 7
	case ExtensionConfigType:
		return 8
	}
	return 9
}

// ShortType is the last part of a type URL ("Cluster"), for messages to people.
func ShortType(typeURL string) string {
	return typeURL[strings.LastIndexAny(typeURL, "./")+1:]
}

// Digest identifies the bytes of a resource; equal digests mean equal bodies.
type Digest [16]byte

// Resource is one named resource as the control plane sent it.
type Resource struct {
	Name string
	// Version is the resource's own version (delta) or the response's (SotW).
	Version string
	// Aliases are other names that it goes by (delta, virtual hosts).
	Aliases []string
	// Body is shared with the response it came in: read it, don't change it.
	Body   *anypb.Any
	Digest Digest
}

// Update is what one response changes. An empty one is delivered too: it says
// that the control plane has answered, which ends waiting for that type.
type Update struct {
	TypeURL string
	// Version is version_info (SotW) or system_version_info (delta).
	Version string
	// Changed holds new resources and those whose bytes differ from the last
	// accepted ones, in the order of the response. Resources with equal bytes
	// are left out; a resource refused before is offered again each time it comes.
	Changed []Resource
	// Removed holds names that exist no more, sorted. For a type subscribed by
	// name it may hold a name that never existed: the control plane's way to say so.
	Removed []string
	// Unchanged counts resources that came again with the bytes already accepted.
	Unchanged int
	// Same are their names, in the order of the response.
	Same []string
	// Bytes is how much was read to find this out, unchanged resources included.
	Bytes int
	// First is set for the first response of this type in the life of the client.
	First bool
}

// Refusal is the verdict on a resource that can't be used; it becomes a part of
// the NACK's error_detail. Err should begin with the path into the resource.
type Refusal struct {
	Name string
	Err  error
}

// Handler uses resources. Methods are called from one goroutine at a time and may
// call Subscribe, Unsubscribe and Refresh.
type Handler interface {
	// Apply puts an update into effect, resource by resource, and returns the
	// ones it refuses; the others are in effect when it returns. A refused
	// resource leaves its last accepted version in place. Removals can't be refused.
	// The update is the handler's to keep; bodies in it are shared, not to be changed.
	Apply(u Update) []Refusal
	// FetchTimedOut says that initial_fetch_timeout passed without an answer for
	// name (Wildcard for a wildcard subscription). The subscription goes on; whoever
	// waits for it should wait no more.
	FetchTimedOut(typeURL, name string)
}
