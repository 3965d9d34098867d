package dialogue

import (
	"regexp"

	"cel.dev/cel-go/cel"
	"google.golang.org/protobuf/encoding/protojson"
)

var expression = regexp.MustCompile(`\$cel\((.*?)\)\$`)

// expressions puts google.api.expr.v1alpha1.Expr in the place of each $cel(...)$, as JSON:
// what people write as text is configured as a message.
func expressions(text string) string {
	return expression.ReplaceAllStringFunc(text, func(found string) string {
		env, err := cel.NewEnv()
		if err != nil {
			return err.Error() // the configuration is refused, and shows it
		}
		ast, issues := env.Parse(expression.FindStringSubmatch(found)[1])
		if issues.Err() != nil {
			return issues.Err().Error()
		}
		parsed, err := cel.AstToParsedExpr(ast)
		if err != nil {
			return err.Error()
		}
		return protojson.Format(parsed.Expr)
	})
}
