package applog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// ParseJSONFormat compiles application_log_config.json_format: an object of
// free form (string, float64, bool, nil, []any, map[string]any, as
// encoding/json has them) whose strings are patterns. Keys come out in order of
// their names. The message is %j; %v and %_ would break the JSON and are
// refused, as Envoy does.
func ParseJSONFormat(object map[string]any) (Format, error) {
	var f Format
	if err := f.object(object, 0); err != nil {
		return Format{}, err
	}
	return f, nil
}

func (f *Format) object(m map[string]any, depth int) error {
	const maxDepth = 16
	if depth > maxDepth {
		return fmt.Errorf("json_format nests more than %d levels deep", maxDepth)
	}
	f.literal("{")
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			f.literal(",")
		}
		f.literal(quoteJSON(key) + ":")
		if err := f.value(m[key], depth); err != nil {
			return fmt.Errorf("json_format.%s: %w", key, err)
		}
	}
	f.literal("}")
	return nil
}

func (f *Format) value(v any, depth int) error {
	switch v := v.(type) {
	case map[string]any:
		return f.object(v, depth+1)
	case string:
		return f.pattern(v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f.literal(string(text))
	return nil
}

// pattern appends a string whose directives are filled in later.
func (f *Format) pattern(s string) error {
	p, err := ParsePattern(s)
	if err != nil {
		return err
	}
	f.literal(`"`)
	for _, part := range p.parts {
		switch part.verb {
		case 'v', '_':
			return fmt.Errorf("%%%c is not available in JSON (use %%j)", part.verb)
		case 0:
			f.literal(string(appendJSON(nil, []byte(part.text))))
		default:
			f.parts = append(f.parts, part)
		}
	}
	f.literal(`"`)
	f.locate = f.locate || p.locate
	return nil
}

func quoteJSON(s string) string {
	return `"` + string(appendJSON(nil, []byte(s))) + `"`
}
