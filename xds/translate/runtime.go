package translate

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

func processRuntime(pb *bootstrapv3.Bootstrap, c *config.Process, _ *filter.Parser) error {
	seen := map[string]bool{}
	admins := 0
	for i, l := range pb.GetLayeredRuntime().GetLayers() {
		at := func(err error) error { return filter.At("layered_runtime", filter.AtIndex("layers", i, err)) }
		if seen[l.Name] {
			return at(filter.At("name", fmt.Errorf("%q is the name of an earlier layer", l.Name)))
		}
		seen[l.Name] = true
		layer, err := runtimeLayer(l, pb.GetNode().GetCluster())
		if err != nil {
			return at(err)
		}
		if layer.Kind == runtime.Admin {
			if admins++; admins > 1 {
				return at(filter.At("admin_layer", errors.New("there can be one only")))
			}
		}
		c.Runtime = append(c.Runtime, layer)
	}
	return nil
}

func runtimeLayer(l *bootstrapv3.RuntimeLayer, serviceCluster string) (layer runtime.Layer, err error) {
	layer = runtime.Layer{Name: l.Name, Values: map[string]string{}}
	switch s := l.LayerSpecifier.(type) {
	case *bootstrapv3.RuntimeLayer_StaticLayer:
		return layer, filter.At("static_layer", flatten("", s.StaticLayer, layer.Values))
	case *bootstrapv3.RuntimeLayer_AdminLayer_:
		layer.Kind = runtime.Admin
	case *bootstrapv3.RuntimeLayer_DiskLayer_:
		d := s.DiskLayer
		if d.SymlinkRoot == "" {
			return layer, filter.At("disk_layer.symlink_root", errors.New("is required"))
		}
		layer.Kind, layer.Root, layer.Directory = runtime.Disk, d.SymlinkRoot, filepath.Join(d.SymlinkRoot, d.Subdirectory)
		if d.AppendServiceCluster {
			layer.Directory = filepath.Join(layer.Directory, serviceCluster)
		}
	case *bootstrapv3.RuntimeLayer_RtdsLayer_:
		layer.Kind, layer.Resource = runtime.RTDS, s.RtdsLayer.GetName()
	default:
		return layer, errors.New("one of static_layer, disk_layer, admin_layer, rtds_layer must be set")
	}
	return layer, nil
}

// Runtime translates a Runtime that came over RTDS to its values by key.
func Runtime(raw []byte) (map[string]string, error) {
	var pb runtimev3.Runtime
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	values := map[string]string{}
	return values, filter.At("layer", flatten("", pb.Layer, values))
}

// flatten joins the keys of nested structs by dots. A struct that is a value of its
// own, a percentage, stays whole, as an empty one does.
func flatten(prefix string, s *structpb.Struct, into map[string]string) error {
	for k, v := range s.GetFields() {
		key := prefix + k
		switch x := v.GetKind().(type) {
		case *structpb.Value_StructValue:
			if !isValue(x.StructValue) {
				if err := flatten(key+".", x.StructValue, into); err != nil {
					return err
				}
				continue
			}
			text, err := protojson.Marshal(v)
			if err != nil {
				return filter.At(key, err) // a number that JSON cannot write
			}
			into[key] = string(text)
		case *structpb.Value_StringValue:
			into[key] = x.StringValue
		case *structpb.Value_NumberValue:
			into[key] = strconv.FormatFloat(x.NumberValue, 'f', -1, 64)
		case *structpb.Value_BoolValue:
			into[key] = strconv.FormatBool(x.BoolValue)
		default:
			return filter.At(key, errors.New("expected a number, a string, a bool or an object"))
		}
	}
	return nil
}

func isValue(s *structpb.Struct) bool {
	_, numerator := s.GetFields()["numerator"]
	_, denominator := s.GetFields()["denominator"]
	return numerator || denominator || len(s.GetFields()) == 0
}
