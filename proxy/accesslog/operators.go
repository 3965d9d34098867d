package accesslog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// appendFunc appends the value of an operator and reports whether there is one.
// What it appended without having a value is cut off again.
type appendFunc func(dst []byte, e *Entry) ([]byte, bool)

// kind is the type of an operator's value in JSON.
type kind uint8

const (
	text   kind = iota
	number      // decimal digits
	raw         // JSON already
)

// operator is a compiled command.
type operator struct {
	name, args string
	append     appendFunc // nil asks Entry.Lookup
	kind       kind
	max        int
}

// appendText appends the value, cut to the operator's maximum length. With asJSON
// the operator is the whole of a JSON value.
func (o *operator) appendText(dst []byte, e *Entry, asJSON bool) ([]byte, bool) {
	start := len(dst)
	var ok bool
	switch {
	case o.append != nil:
		dst, ok = o.append(dst, e)
	case e.Lookup != nil:
		dst, ok = e.Lookup.AppendValue(dst, o.name, o.args, asJSON)
	}
	if !ok {
		return dst[:start], false
	}
	if o.max >= 0 && len(dst)-start > o.max && !(asJSON && o.kind == raw) { // a piece of JSON is none
		dst = dst[:start+o.max]
	}
	return dst, true
}

// arguments says what may stand between the parentheses of a command, and whether
// ":max" may follow.
type arguments uint8

const (
	noArgs  arguments = iota
	mayArgs           // optional; a length too
	mustArgs
	timeArgs // optional; no length
)

// definition is an entry of the table of commands. Exactly one of plain and build is
// set, or neither for what this proxy never has: that prints as missing.
type definition struct {
	args  arguments
	kind  kind
	plain appendFunc
	build func(args string) (appendFunc, error)
	// lookup sends the command to Entry.Lookup.
	lookup bool
}

func newOperator(cmd command) (*operator, error) {
	def, ok := define(cmd.name)
	if !ok {
		return nil, fmt.Errorf("unknown operator %q", cmd.name)
	}
	switch given := cmd.hasArgs && cmd.args != ""; {
	case def.args == noArgs && (cmd.hasArgs || cmd.max >= 0):
		return nil, fmt.Errorf("%s does not take any parameters or length", cmd.name)
	case def.args == mustArgs && !given:
		return nil, fmt.Errorf("%s requires parameters", cmd.name)
	case def.args == timeArgs && cmd.max >= 0:
		return nil, fmt.Errorf("%s does not allow length to be specified", cmd.name)
	}
	op := &operator{name: cmd.name, args: cmd.args, kind: def.kind, max: cmd.max, append: def.plain}
	if def.build != nil {
		f, err := def.build(cmd.args)
		if err != nil {
			return nil, fmt.Errorf("%s(%s): %w", cmd.name, cmd.args, err)
		}
		op.append = f
	}
	switch {
	case def.lookup:
		op.name, op.args = lookupKey(cmd)
	case op.append == nil:
		op.append = missing
	}
	return op, nil
}

func missing(dst []byte, _ *Entry) ([]byte, bool) { return dst, false }

// define finds a command.
func define(name string) (definition, bool) {
	for _, table := range [...]func(string) (definition, bool){defineHTTP, defineStream, defineTLS, defineAddress, defineTime, defineWhy} {
		if d, ok := table(name); ok {
			return d, true
		}
	}
	switch name {
	case "HOSTNAME":
		host, err := os.Hostname()
		return definition{plain: constant(host, err == nil)}, true
	case "ENVIRONMENT":
		return definition{args: mustArgs, build: func(key string) (appendFunc, error) {
			v, ok := os.LookupEnv(key)
			return constant(v, ok), nil
		}}, true
	case "COALESCE":
		return definition{args: mustArgs, build: coalesce}, true
	case "DYNAMIC_METADATA", "CLUSTER_METADATA", "UPSTREAM_METADATA", "METADATA",
		"FILTER_STATE", "UPSTREAM_FILTER_STATE", "PER_REQUEST_STATE":
		return definition{args: mustArgs, kind: raw, lookup: true}, true
	case "TRACE_ID", "SPAN_ID":
		return definition{lookup: true}, true
	case "CEL", "TYPED_CEL":
		return definition{args: mustArgs, lookup: true}, true
	}
	return definition{}, false
}

// lookupKey returns the name and arguments under which a lookup is asked. Two old
// spellings of header values are translated: PER_REQUEST_STATE(x), and a JSON array
// as the arguments of UPSTREAM_METADATA.
func lookupKey(cmd command) (name, args string) {
	if cmd.name == "PER_REQUEST_STATE" {
		return "FILTER_STATE", cmd.args + ":PLAIN"
	}
	if strings.HasPrefix(cmd.args, "[") {
		var path []string
		if json.Unmarshal([]byte(cmd.args), &path) == nil {
			return cmd.name, strings.Join(path, ":")
		}
	}
	return cmd.name, cmd.args
}

func constant(s string, ok bool) appendFunc {
	return func(dst []byte, _ *Entry) ([]byte, bool) { return append(dst, s...), ok }
}

// coalesce returns the first of several operators that has a value. Its argument is
// {"operators": [...]}, each a name or {"command","param","max_length"}.
func coalesce(args string) (appendFunc, error) {
	var spec struct {
		Operators []json.RawMessage `json:"operators"`
	}
	if err := json.Unmarshal([]byte(args), &spec); err != nil {
		return nil, err
	}
	if len(spec.Operators) == 0 {
		return nil, errors.New("needs operators")
	}
	var ops []*operator
	for _, m := range spec.Operators {
		cmd := command{max: -1}
		if json.Unmarshal(m, &cmd.name) != nil {
			var o struct {
				Command   string `json:"command"`
				Param     string `json:"param"`
				MaxLength *int   `json:"max_length"`
			}
			if err := json.Unmarshal(m, &o); err != nil {
				return nil, err
			}
			cmd.name, cmd.args, cmd.hasArgs = o.Command, o.Param, o.Param != ""
			if o.MaxLength != nil && *o.MaxLength >= 0 {
				cmd.max = *o.MaxLength
			}
		}
		if cmd.name == "COALESCE" {
			return nil, errors.New("cannot hold another COALESCE")
		}
		op, err := newOperator(cmd)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return func(dst []byte, e *Entry) ([]byte, bool) {
		for _, op := range ops {
			var ok bool
			if dst, ok = op.appendText(dst, e, false); ok {
				return dst, true
			}
		}
		return dst, false
	}, nil
}
