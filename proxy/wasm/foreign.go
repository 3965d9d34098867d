package wasm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zlib"

	"github.com/mecha-mesh/mecha/proxy/cel"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// Bounds of foreign functions.
const (
	maxDeclared    = 1024 // properties of a root
	maxExpressions = 256  // of a root
	maxExpression  = 8192 // bytes
)

// foreign is a function of the host that is not of the ABI. argument is a view of the guest's
// memory.
type foreign func(in *Instance, argument []byte) ([]byte, Status)

// foreignFunctions are those of Envoy, by name.
func foreignFunctions() map[string]foreign {
	return map[string]foreign{
		"compress":               compress,
		"uncompress":             uncompress,
		"set_envoy_filter_state": setFilterState,
		"clear_route_cache":      func(in *Instance, _ []byte) ([]byte, Status) { return nil, in.clearRouteCache(nil) },
		"declare_property":       declareProperty,
		"expr_create":            createExpression,
		"expr_evaluate":          evaluateExpression,
		"expr_delete":            deleteExpression,
		"verify_signature":       verifySignature,
		"sign":                   sign,
	}
}

// callForeign is (name, argument, where the address of the result goes, and its size); a
// guest that does not want a result gives no such place.
func (in *Instance) callForeign(a []uint64) Status {
	name, ok1 := in.view(a[0], a[1])
	argument, ok2 := in.view(a[2], a[3])
	if !ok1 || !ok2 {
		return StatusInvalidMemoryAccess
	}
	f := in.vm.host.foreign[string(name)]
	if f == nil {
		return StatusNotFound
	}
	result, s := f(in, argument)
	if s != StatusOK {
		return s
	}
	if uint32(a[4]) == 0 {
		if uint32(a[5]) == 0 {
			return StatusOK
		}
		return in.put32(a[5], uint32(len(result)))
	}
	return in.give(string(result), a[4], a[5])
}

func compress(_ *Instance, argument []byte) ([]byte, Status) {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, err := w.Write(argument)
	if errors.Join(err, w.Close()) != nil {
		return nil, StatusSerializationFailure
	}
	return b.Bytes(), StatusOK
}

func uncompress(_ *Instance, argument []byte) ([]byte, Status) {
	r, err := zlib.NewReader(bytes.NewReader(argument))
	if err != nil {
		return nil, StatusSerializationFailure
	}
	out, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil || len(out) > maxBody {
		return nil, StatusSerializationFailure
	}
	return out, StatusOK
}

// setFilterState takes a SetEnvoyFilterStateArguments: path, value, span.
func setFilterState(in *Instance, argument []byte) ([]byte, Status) {
	var path, value string
	var span uint64
	ok := wire.Fields(argument, func(field int, n uint64, v []byte) {
		switch field {
		case 1:
			path = string(v)
		case 2:
			value = string(v)
		case 3:
			span = n
		}
	})
	if !ok {
		return nil, StatusBadArgument
	}
	factory := filter.ObjectFactoryOf(path)
	if factory == nil {
		return nil, StatusNotFound
	}
	object, ok := factory(value)
	if !ok {
		return nil, StatusBadArgument
	}
	state := in.states(span)
	if state == nil {
		return nil, StatusNotFound
	}
	state.Set(path, object)
	return nil, StatusOK
}

// declareProperty takes a DeclarePropertyArguments: name, readonly, type, schema, span. All
// types are kept as bytes. What a stream declares is noted and has no effect, as in Envoy.
func declareProperty(in *Instance, argument []byte) ([]byte, Status) {
	var name string
	var p property
	ok := wire.Fields(argument, func(field int, n uint64, v []byte) {
		switch field {
		case 1:
			name = string(v)
		case 2:
			p.readonly = n != 0
		case 5:
			p.span = n
		}
	})
	c := in.effective
	if c == nil {
		return nil, StatusBadArgument
	}
	if _, taken := c.declared[name]; !ok || taken || len(c.declared) >= maxDeclared {
		return nil, StatusBadArgument
	}
	if c.declared == nil {
		c.declared = map[string]property{}
	}
	c.declared[name] = p
	return nil, StatusOK
}

// createExpression takes the text of an expression, and gives its token.
func createExpression(in *Instance, argument []byte) ([]byte, Status) {
	root := in.effectiveRoot()
	if len(argument) > maxExpression || len(root.expressions) >= maxExpressions {
		return nil, StatusBadArgument
	}
	p, err := cel.Text(string(argument))
	if err != nil {
		return nil, StatusBadArgument
	}
	if root.expressions == nil {
		root.expressions = map[uint32]*cel.Program{}
	}
	token := root.expression
	for root.expressions[token] != nil {
		token++
	}
	root.expressions[token] = p
	root.expression = token + 1
	return binary.LittleEndian.AppendUint32(nil, token), StatusOK
}

func evaluateExpression(in *Instance, argument []byte) ([]byte, Status) {
	if len(argument) != 4 {
		return nil, StatusBadArgument
	}
	p := in.effectiveRoot().expressions[binary.LittleEndian.Uint32(argument)]
	if p == nil {
		return nil, StatusNotFound
	}
	v, err := p.Value(in.source())
	if err != nil {
		return nil, StatusInternalFailure
	}
	out, ok := appendValue(nil, v)
	if !ok {
		return nil, StatusSerializationFailure
	}
	return out, StatusOK
}

func deleteExpression(in *Instance, argument []byte) ([]byte, Status) {
	if len(argument) != 4 {
		return nil, StatusBadArgument
	}
	delete(in.effectiveRoot().expressions, binary.LittleEndian.Uint32(argument))
	return nil, StatusOK
}
