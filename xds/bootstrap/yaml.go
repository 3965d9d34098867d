package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// aliasAllowance is how many nodes aliases may add to what the text itself
// holds. A text cannot hold more nodes than bytes, so the two together bound
// the tree, and a few nested aliases cannot grow it exponentially.
const aliasAllowance = 100_000

// parseYAML returns one node per document of the stream.
func parseYAML(file string, data []byte) (docs []*node, err error) {
	// The parser below is the one part of the loader that isn't ours; what it
	// may still panic on is a wrong file, not a broken proxy.
	defer func() {
		if p := recover(); p != nil {
			docs, err = nil, refuse(file, 0, "", "not valid YAML: the parser gave up: %v", p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	c := yamlConverter{file: file, budget: len(data) + aliasAllowance}
	for {
		var doc yaml.Node
		switch e := dec.Decode(&doc); {
		case errors.Is(e, io.EOF):
			if len(docs) == 0 {
				return nil, refuse(file, 0, "", "the file is empty")
			}
			return docs, nil
		case e != nil:
			line, text := yamlMessage(e)
			return nil, refuse(file, line, "", "not valid YAML: %s", text)
		}
		n, e := c.convert(&doc, 0)
		if e != nil {
			return nil, e
		}
		docs = append(docs, n)
	}
}

// yamlMessage splits "yaml: line 3: what" into its parts.
func yamlMessage(err error) (int, string) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if num, what, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(num); err == nil {
				return line, what
			}
		}
	}
	return 0, text
}

type yamlConverter struct {
	file   string
	budget int
}

func (c *yamlConverter) fail(y *yaml.Node, format string, args ...any) error {
	return refuse(c.file, y.Line, "", "%s", fmt.Sprintf(format, args...))
}

func (c *yamlConverter) convert(y *yaml.Node, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, c.fail(y, "nested more than %d levels deep", maxDepth)
	}
	if c.budget--; c.budget < 0 {
		return nil, c.fail(y, "aliases make this file too large (more than %d repeated values)", aliasAllowance)
	}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) == 0 {
			return &node{kind: kindNull, line: int32(y.Line)}, nil
		}
		return c.convert(y.Content[0], depth)
	case yaml.AliasNode:
		return c.convert(y.Alias, depth+1)
	case yaml.SequenceNode:
		n := &node{kind: kindList, line: int32(y.Line), items: make([]*node, 0, len(y.Content))}
		for _, item := range y.Content {
			v, err := c.convert(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, v)
		}
		return n, nil
	case yaml.MappingNode:
		return c.mapping(y, depth)
	case yaml.ScalarNode:
		return scalar(y), nil
	}
	return &node{kind: kindNull, line: int32(y.Line)}, nil
}

// mapping converts the keys in order. "<<" merges other mappings in, below
// what the mapping says itself.
func (c *yamlConverter) mapping(y *yaml.Node, depth int) (*node, error) {
	n := &node{kind: kindMap, line: int32(y.Line), fields: make([]member, 0, len(y.Content)/2)}
	var seen keySet
	var merges []*yaml.Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return nil, c.fail(y.Content[i], "a list or object is used as a key")
		}
		if k.Value == "<<" && k.Style == 0 {
			merges = append(merges, v)
			continue
		}
		val, err := c.convert(v, depth+1)
		if err != nil {
			return nil, err
		}
		m := member{key: strings.ToValidUTF8(k.Value, "\uFFFD"), line: int32(k.Line), val: val}
		if m.again = seen.add(n.fields, m.key); m.again {
			n.drop(m.key)
		}
		n.fields = append(n.fields, m)
	}
	for _, m := range merges {
		if err := c.merge(n, m, depth+1); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// merge adds what the mapping (or list of mappings) at y has and n doesn't.
func (c *yamlConverter) merge(n *node, y *yaml.Node, depth int) error {
	from, err := c.convert(y, depth)
	if err != nil {
		return err
	}
	sources := []*node{from}
	if from.kind == kindList {
		sources = from.items
	}
	for _, s := range sources {
		if s.kind != kindMap {
			return c.fail(y, "expected an object after <<, got %s", s.describe())
		}
		have := make(map[string]struct{}, len(n.fields))
		for i := range n.fields {
			have[n.fields[i].key] = struct{}{}
		}
		for _, f := range s.fields {
			if _, ok := have[f.key]; !ok {
				n.fields = append(n.fields, f)
			}
		}
	}
	return nil
}

// scalar reads an unquoted word the way Envoy does: a boolean in YAML 1.1's
// spellings, a whole number (decimal, 0x hexadecimal or 0 octal) that fits in
// 32 bits, and otherwise text, which a number field still reads as a number.
func scalar(y *yaml.Node) *node {
	n := &node{kind: kindString, line: int32(y.Line), text: strings.ToValidUTF8(y.Value, "\uFFFD")}
	plain := y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if !plain || y.Style&yaml.TaggedStyle != 0 && y.ShortTag() == "!!str" {
		return n
	}
	switch y.Value {
	case "", "~", "null", "Null", "NULL":
		return &node{kind: kindNull, line: n.line}
	}
	n.bare = true
	if b, ok := yamlBool(y.Value); ok {
		n.kind, n.text, n.raw = kindBool, strconv.FormatBool(b), y.Value
		return n
	}
	if !isYAMLInt(y.Value) {
		return n
	}
	i, err := strconv.ParseInt(y.Value, 0, 64)
	if err != nil {
		return n
	}
	if i >= math.MinInt32 && i <= math.MaxInt32 {
		n.kind = kindNumber
	}
	n.text, n.raw = strconv.FormatInt(i, 10), y.Value
	return n
}

// isYAMLInt tells whether s is a whole number in a notation whose prefixes mean
// the same to strconv's base 0 and to Envoy: no 0o, no 0b, no underscores.
func isYAMLInt(s string) bool {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	allowed := "0123456789"
	switch {
	case len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X"):
		s, allowed = s[2:], "0123456789abcdefABCDEF"
	case len(s) > 1 && s[0] == '0':
		allowed = "01234567"
	}
	return s != "" && strings.Trim(s, allowed) == ""
}

// yamlBool knows y, yes, true, on and their opposites in lower, upper and
// capitalised spelling.
func yamlBool(s string) (value, ok bool) {
	if len(s) > 5 {
		return false, false
	}
	low := strings.ToLower(s)
	if s != low && s != strings.ToUpper(s) && s[1:] != low[1:] {
		return false, false
	}
	switch low {
	case "y", "yes", "true", "on":
		return true, true
	case "n", "no", "false", "off":
		return false, true
	}
	return false, false
}
