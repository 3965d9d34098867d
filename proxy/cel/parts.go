package cel

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/mecha-mesh/mecha/proxy/attributes"
)

// parts is a value whose parts are looked up when an expression asks for them.
type parts struct {
	at  func(name string) any
	all func() map[string]any // nil: parts are not listed
}

var _ traits.Mapper = (*parts)(nil)

// valueOf makes an attribute a value of the language.
func valueOf(v any) ref.Val {
	if k, ok := v.(attributes.Keyed); ok {
		return &parts{at: k.At, all: k.All}
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

// Find implements traits.Mapper.
func (p *parts) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v := p.at(string(name))
	if v == nil {
		return nil, false
	}
	return valueOf(v), true
}

// Get implements traits.Indexer.
func (p *parts) Get(key ref.Val) ref.Val {
	if v, ok := p.Find(key); ok {
		return v
	}
	return types.NewErr("no such key: %v", key.Value())
}

// Contains implements traits.Container.
func (p *parts) Contains(key ref.Val) ref.Val {
	_, ok := p.Find(key)
	return types.Bool(ok)
}

func (p *parts) list() traits.Mapper {
	var all map[string]any
	if p.all != nil {
		all = p.all()
	}
	return types.NewStringInterfaceMap(types.DefaultTypeAdapter, all)
}

// Size implements traits.Sizer.
func (p *parts) Size() ref.Val { return p.list().Size() }

// Iterator implements traits.Iterable.
func (p *parts) Iterator() traits.Iterator { return p.list().Iterator() }

// ConvertToNative implements ref.Val.
func (p *parts) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("cel: attributes cannot be made a %v", t)
}

// ConvertToType implements ref.Val.
func (p *parts) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.MapType:
		return p
	case types.TypeType:
		return types.MapType
	}
	return types.NewErr("attributes cannot be made a %v", t.TypeName())
}

// Equal implements ref.Val.
func (p *parts) Equal(other ref.Val) ref.Val { return p.list().Equal(other) }

// Type implements ref.Val.
func (p *parts) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (p *parts) Value() any { return p }
