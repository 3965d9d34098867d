// Package cel evaluates expressions in the Common Expression Language over attributes
// (package attributes). How expensive an expression may be is bounded.
package cel

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"github.com/mecha-mesh/mecha/proxy/attributes"
)

// mostCost bounds one evaluation, in steps as cel-go counts them.
const mostCost = 1_000_000

// Program is a compiled expression. It is immutable and used by all streams at once.
type Program struct{ program cel.Program }

// Parsed compiles google.api.expr.v1alpha1.Expr.
func Parsed(e *exprpb.Expr) (*Program, error) {
	if e.GetExprKind() == nil {
		return nil, errors.New("the expression is empty")
	}
	return compile(func() *cel.Ast {
		return cel.ParsedExprToAst(&exprpb.ParsedExpr{Expr: e, SourceInfo: &exprpb.SourceInfo{}})
	})
}

// Checked compiles google.api.expr.v1alpha1.CheckedExpr. Its types are not made use of.
func Checked(e *exprpb.CheckedExpr) (*Program, error) { return Parsed(e.GetExpr()) }

// Text compiles the source text of an expression.
func Text(text string) (*Program, error) {
	env, err := cel.NewEnv()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Parse(text)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	return compile(func() *cel.Ast { return ast })
}

// compile plans an expression. What the library says by panicking is an error.
func compile(ast func() *cel.Ast) (p *Program, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("the expression cannot be evaluated: %v", r)
		}
	}()
	env, err := cel.NewEnv()
	if err != nil {
		return nil, err
	}
	program, err := env.Program(ast(), cel.CostLimit(mostCost))
	if err != nil {
		return nil, err
	}
	return &Program{program}, nil
}

// Match evaluates a condition. What cannot be evaluated, or is no bool, does not match.
func (p *Program) Match(s attributes.Source) bool {
	v, err := p.eval(s)
	return err == nil && v == types.True
}

// Text evaluates an expression to a text; ok is false where it cannot be evaluated, or has
// no text.
func (p *Program) Text(s attributes.Source) (text string, ok bool) {
	v, err := p.eval(s)
	if err != nil {
		return "", false
	}
	switch v := v.(type) {
	case types.String:
		return string(v), true
	case types.Bytes:
		return string(v), true
	}
	if v == nil || types.IsUnknownOrError(v) {
		return "", false
	}
	t := v.ConvertToType(types.StringType)
	text, ok = t.Value().(string)
	return text, ok && !types.IsError(t)
}

// Value evaluates an expression to a value such as attributes have.
func (p *Program) Value(s attributes.Source) (any, error) {
	v, err := p.eval(s)
	if err != nil {
		return nil, err
	}
	return native(v)
}

// native makes a value of the language what an attribute is.
func native(v ref.Val) (any, error) {
	switch v := v.(type) {
	case *types.Err:
		return nil, v
	case *parts:
		if v.all == nil {
			return nil, errors.New("cel: an object as a whole has no value")
		}
		return v.all(), nil
	case types.Duration:
		return v.Duration, nil
	case types.Timestamp:
		return v.Time, nil
	case traits.Mapper:
		out := map[string]any{}
		for i := v.Iterator(); i.HasNext() == types.True; {
			k := i.Next()
			name, ok := k.(types.String)
			if !ok {
				return nil, errors.New("cel: a map whose keys are no texts")
			}
			value, err := native(v.Get(k))
			if err != nil {
				return nil, err
			}
			out[string(name)] = value
		}
		return out, nil
	}
	return v.Value(), nil
}

func (p *Program) eval(s attributes.Source) (ref.Val, error) {
	v, _, err := p.program.Eval(activation{s})
	return v, err
}

// activation finds attributes by name.
type activation struct{ attributes.Source }

// ResolveName implements interpreter.Activation.
func (a activation) ResolveName(name string) (any, bool) {
	switch name {
	case "metadata", "filter_state":
		return valueOf(a.Find(name)), true
	}
	for _, object := range attributes.Objects() {
		if object == name {
			return &parts{at: func(part string) any { return a.At(object, part) }}, true
		}
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (activation) Parent() cel.Activation { return nil }
