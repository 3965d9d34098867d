package fromproto

import (
	"errors"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/cel"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
)

// The input that is all attributes of a stream, and the matcher that takes it.
const (
	celInput   = "xds.type.matcher.v3.HttpAttributesCelMatchInput"
	celMatcher = "xds.type.matcher.v3.CelMatcher"
)

// celMatch decodes xds.type.matcher.v3.CelMatcher.
func celMatch(raw []byte) (tree.ValueMatcher, error) {
	var pb xdsmatcherv3.CelMatcher
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	e := pb.ExprMatch
	switch {
	case e.GetCelExprChecked() != nil:
		p, err := parsed(e.CelExprChecked.GetExpr())
		return expression{p}, filter.At("expr_match.cel_expr_checked", err)
	case e.GetCelExprParsed() != nil:
		p, err := parsed(e.CelExprParsed.GetExpr())
		return expression{p}, filter.At("expr_match.cel_expr_parsed", err)
	case e.GetCelExprString() != "":
		p, err := cel.Text(e.CelExprString)
		return expression{p}, filter.At("expr_match.cel_expr_string", err)
	}
	return nil, filter.At("expr_match", errors.New("one of cel_expr_parsed, cel_expr_checked, cel_expr_string must be set"))
}

// parsed compiles an expression, whose message has two names.
func parsed(pb proto.Message) (*cel.Program, error) {
	var same exprpb.Expr
	if err := convert(pb, &same); err != nil {
		return nil, err
	}
	return cel.Parsed(&same)
}

// expression matches attributes of which a condition is true.
type expression struct{ *cel.Program }

// MatchValue implements tree.ValueMatcher.
func (e expression) MatchValue(v tree.Value) bool {
	s, ok := v.Data.(attributes.Source)
	return ok && e.Match(s)
}
