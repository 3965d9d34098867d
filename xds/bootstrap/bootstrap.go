// Package bootstrap reads configuration that people and templates wrote: the
// bootstrap file and --config-yaml, and any other message of Envoy's API that
// lies in a file. It accepts what Envoy accepts, which is more than proto3
// JSON allows:
//
//   - YAML and JSON (also with trailing commas, single quotes, unquoted keys),
//     binary protobuf (.pb) and its text format (.pb_text);
//   - field names in snake_case and lowerCamel, mixed;
//   - one object or scalar where the field is a list;
//   - enum values in any letter case, or as numbers;
//   - numbers and booleans in quotes, YAML's octal and hexadecimal numbers and
//     its yes, no, on, off;
//   - durations and wrapped numbers spelled out as objects;
//   - null for "not set", {} for an empty Any, keys given twice (the last wins).
//
// What it refuses, it refuses with file, line, path into the message and what
// was expected, as a list of Findings.
//
// Not here: what the fields mean (xds/translate), what to do with an extension
// nobody knows, and resources that arrive over the wire, except for the pieces
// both need: Unwrap for TypedStruct, Validate, Unknown.
package bootstrap

import (
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
)

// InlineName is the file name in messages about LoadOptions.YAML.
const InlineName = "--config-yaml"

// LoadOptions says where a bootstrap comes from. At least one of Path and YAML
// is needed.
type LoadOptions struct {
	// Path is the file (-c). It is read once, from start to end.
	Path string
	// YAML is text merged over the file (--config-yaml): repeated fields
	// append, scalars replace, messages merge.
	YAML string
	// AllowUnknownFields is --allow-unknown-static-fields.
	AllowUnknownFields bool
	// IgnoreDeprecated is --skip-deprecated-logs.
	IgnoreDeprecated bool
	// Node, Cluster and Zone replace the node's id, cluster and locality zone
	// unless empty (--service-node, --service-cluster, --service-zone).
	Node, Cluster, Zone string
}

// Load reads, merges and checks a bootstrap. An extension type that isn't
// linked is not an error here: it stays in the message as a TypedStruct, with a
// warning, and whoever builds that listener or cluster refuses it by name.
func Load(o LoadOptions) (*bootstrapv3.Bootstrap, Report, error) {
	if o.Path == "" && o.YAML == "" {
		return nil, Report{}, refuse("", 0, "", "no configuration: give a file with -c (--config-path) or text with --config-yaml")
	}
	var (
		merged  = new(bootstrapv3.Bootstrap)
		report  Report
		sources []Source
		trees   []*node
	)
	if o.Path != "" {
		src, err := ReadSource(o.Path)
		if err != nil {
			return nil, report, err
		}
		sources = append(sources, src)
	}
	if o.YAML != "" {
		sources = append(sources, Source{Name: InlineName, Data: []byte(o.YAML), Format: FormatYAML})
	}
	opts := Options{
		AllowUnknownFields: o.AllowUnknownFields,
		KeepUnknownTypes:   true,
		IgnoreDeprecated:   o.IgnoreDeprecated,
	}
	for _, src := range sources {
		part, tree, rep, err := decodePart(src, opts)
		report.add(rep)
		if err != nil {
			return nil, report, err
		}
		proto.Merge(merged, part)
		trees = append(trees, tree)
	}
	if err := checkMerged(merged, sources, trees); err != nil {
		return nil, report, err
	}
	overrideNode(merged, o)
	return merged, report, nil
}

// decodePart decodes one source of a merge. The Any fields in it are checked
// against their constraints, the message around them is not: a part may lack
// what another gives.
func decodePart(src Source, o Options) (*bootstrapv3.Bootstrap, *node, Report, error) {
	part := new(bootstrapv3.Bootstrap)
	if f := src.format(); f == FormatBinary || f == FormatText {
		o.SkipConstraints = true
		rep, err := Decode(src, part, o)
		return part, nil, rep, err
	}
	docs, err := src.tree()
	if err != nil {
		return nil, nil, Report{}, err
	}
	d := newDecoder(src.Name, o)
	if len(docs) > 1 {
		d.warnAt(docs[1].line, "only the first document of the file is read; this is the second")
	}
	if docs[0].kind == kindNull {
		d.problem(0, "the file is empty")
	}
	d.message(docs[0], part.ProtoReflect())
	return part, docs[0], d.report, d.err()
}

// checkMerged applies the schema's constraints to the whole. With one source
// the findings carry its lines; after a merge only paths are exact.
func checkMerged(b *bootstrapv3.Bootstrap, sources []Source, trees []*node) error {
	name, tree := sources[0].Name, trees[0]
	if len(sources) > 1 {
		name, tree = sources[0].Name+" with "+sources[1].Name, nil
	}
	d := newDecoder(name, Options{})
	d.constraints(tree, b)
	return d.err()
}

func overrideNode(b *bootstrapv3.Bootstrap, o LoadOptions) {
	if o.Node == "" && o.Cluster == "" && o.Zone == "" {
		return
	}
	if b.Node == nil {
		b.Node = new(corev3.Node)
	}
	if o.Node != "" {
		b.Node.Id = o.Node
	}
	if o.Cluster != "" {
		b.Node.Cluster = o.Cluster
	}
	if o.Zone != "" {
		if b.Node.Locality == nil {
			b.Node.Locality = new(corev3.Locality)
		}
		b.Node.Locality.Zone = o.Zone
	}
}
