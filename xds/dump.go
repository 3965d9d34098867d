package xds

import (
	"fmt"
	"regexp"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
)

// DumpOptions are the parameters of admin's /config_dump, and what only the engine
// knows.
type DumpOptions struct {
	Resource   string // a field of a dump message, such as "dynamic_active_clusters"; "" is everything
	Mask       string // a protobuf field mask, "" shows all
	NameRegex  string
	IncludeEDS bool

	Loaded           time.Time // when the bootstrap was read
	Active, Warming  []*cluster.Cluster
	WarmingListeners []string // names of those whose newest version waits for its route tables
	// FailedListeners says why listeners that were accepted came to nothing later, by name:
	// somebody else had their address when they began to listen.
	FailedListeners map[string]error
}

// A DumpError tells the one who asked what is wrong with the question.
type DumpError struct {
	NotFound bool // there is no such resource
	Text     string
}

// Error returns the text.
func (e *DumpError) Error() string { return e.Text }

// dump is one answer in the making.
type dump struct {
	m     *Manager
	o     *DumpOptions
	names *regexp.Regexp
	shown shown
}

// Dump returns everything in effect as the JSON of an envoy.admin.v3.ConfigDump, in
// Envoy's order: bootstrap, clusters, endpoints, listeners, scoped routes, routes,
// secrets, ECDS. Secrets are taken out. A *DumpError is the fault of the one who asked.
func (m *Manager) Dump(b *bootstrapv3.Bootstrap, o DumpOptions) ([]byte, error) {
	names, err := regexp.Compile(o.NameRegex)
	if err != nil {
		return nil, &DumpError{Text: fmt.Sprintf("INVALID_ARGUMENT: Error while parsing name_regex from %s: %v", o.NameRegex, err)}
	}
	d := &dump{m: m, o: &o, names: names}
	out := &adminv3.ConfigDump{}
	if mask := parseMask(o.Mask); o.Resource != "" {
		out.Configs, err = d.resource(b, mask)
	} else {
		out.Configs, err = d.all(b, mask)
	}
	if err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{Indent: " ", UseProtoNames: true, Resolver: opaque{}}.Marshal(out)
}

// sections returns the messages of a whole dump.
func (d *dump) sections(b *bootstrapv3.Bootstrap) []proto.Message {
	boot := proto.Clone(b).(*bootstrapv3.Bootstrap)
	d.shown.message(boot.ProtoReflect(), false)
	out := []proto.Message{
		&adminv3.BootstrapConfigDump{Bootstrap: boot, LastUpdated: stamp(d.o.Loaded)},
		d.clusters(),
	}
	if d.o.IncludeEDS {
		out = append(out, d.endpoints())
	}
	listeners, inline, scoped := d.listeners()
	return append(out, listeners, d.scopes(scoped), d.routes(inline), d.secrets(), &adminv3.EcdsConfigDump{})
}

func (d *dump) all(b *bootstrapv3.Bootstrap, mask fieldMask) (out []*anypb.Any, err error) {
	for _, s := range d.sections(b) {
		if mask != nil && !mask.trim(s.ProtoReflect()) {
			continue // it is about other sections
		}
		a, err := anypb.New(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if mask != nil && len(out) == 0 {
		return nil, &DumpError{Text: fmt.Sprintf("FieldMask %s could not be successfully applied to any configs.", d.o.Mask)}
	}
	return out, nil
}

// resource returns the elements of one repeated field of a section.
func (d *dump) resource(b *bootstrapv3.Bootstrap, mask fieldMask) ([]*anypb.Any, error) {
	for _, section := range d.sections(b) {
		r := section.ProtoReflect()
		for i := range r.Descriptor().Fields().Len() {
			fd := r.Descriptor().Fields().Get(i)
			if string(fd.Name()) != d.o.Resource {
				continue
			}
			if !fd.IsList() {
				return nil, &DumpError{Text: fmt.Sprintf("%[1]s is not a repeated field. Use ?mask=%[1]s to get only this field", d.o.Resource)}
			}
			var out []*anypb.Any
			list := r.Get(fd).List()
			for j := range list.Len() {
				if mask != nil && !mask.trim(list.Get(j).Message()) {
					return nil, &DumpError{Text: fmt.Sprintf("FieldMask %s could not be successfully used.", mask)}
				}
				a, err := anypb.New(list.Get(j).Message().Interface())
				if err != nil {
					return nil, err
				}
				out = append(out, a)
			}
			return out, nil
		}
	}
	return nil, &DumpError{NotFound: true, Text: d.o.Resource + " not found in config dump"}
}

// records calls f with the records of a type whose names are asked for.
func (d *dump) records(typeURL string, f func(*Record)) {
	for _, r := range d.m.Records(typeURL) {
		if d.names.MatchString(r.Name) {
			f(&r)
		}
	}
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// failure tells of a newer version that was refused.
func (d *dump) failure(r *Record) *adminv3.UpdateFailureState {
	if r.Refused == nil {
		return nil
	}
	return &adminv3.UpdateFailureState{
		FailedConfiguration: d.shown.any(r.Refused.Body, false),
		Details:             r.Refused.Err.Error(), VersionInfo: r.Refused.Version, LastUpdateAttempt: stamp(r.Refused.At),
	}
}
