package xds

import (
	"maps"
	"slices"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// uninitialized is the version of a secret that has not come, as in Envoy.
const uninitialized = "uninitialized"

// secrets shows all secrets without what is secret in them: those of the bootstrap, those
// that have come, and those that have not.
func (d *dump) secrets() proto.Message {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	out := &adminv3.SecretsConfigDump{}
	for _, name := range slices.Sorted(maps.Keys(d.m.staticSecrets)) {
		if d.names.MatchString(name) {
			out.StaticSecrets = append(out.StaticSecrets, &adminv3.SecretsConfigDump_StaticSecret{Name: name, Secret: d.m.staticSecrets[name].shown})
		}
	}
	list := slices.Collect(maps.Values(d.m.secretTable))
	slices.SortFunc(list, func(a, b *namedSecret) int { return strings.Compare(a.ref.name, b.ref.name) })
	for _, s := range list {
		if !d.names.MatchString(s.ref.name) {
			continue
		}
		one := &adminv3.SecretsConfigDump_DynamicSecret{
			Name: s.ref.name, VersionInfo: s.version, LastUpdated: stamp(s.updated), Secret: s.shown,
		}
		if r := s.refused; r != nil {
			one.ErrorState = &adminv3.UpdateFailureState{
				FailedConfiguration: r.Body, Details: r.Err.Error(), VersionInfo: r.Version, LastUpdateAttempt: stamp(r.At),
			}
		}
		if s.kind != "" {
			out.DynamicActiveSecrets = append(out.DynamicActiveSecrets, one)
			continue
		}
		one.VersionInfo = uninitialized
		one.Secret = note(&anypb.Any{TypeUrl: ads.SecretType})
		if a, err := anypb.New(&tlsv3.Secret{Name: s.ref.name}); err == nil {
			one.Secret = a
		}
		out.DynamicWarmingSecrets = append(out.DynamicWarmingSecrets, one)
	}
	return out
}
