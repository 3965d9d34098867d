package jsontometadata

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// entry is what a rule stores.
type entry struct {
	*Pair
	value any
}

// read applies the rules to a body, nil or empty for none.
func (r *Rules) read(s *filter.Stream, body []byte, n *direction) {
	if len(body) == 0 {
		n.noBody.Inc()
		r.all(s, func(rule *Rule) *Pair { return rule.Missing })
		return
	}
	root, err := decode(body)
	if err != nil {
		n.invalid.Inc()
		r.failed(s)
		return
	}
	n.success.Inc()
	var entries []entry
	for i := range r.List {
		rule := &r.List[i]
		v, there := rule.find(root)
		if there && rule.Present != nil && v != nil {
			entries = append(entries, entry{rule.Present, v})
		}
		if p := rule.Missing; !there && p != nil {
			entries = append(entries, entry{p, p.Fixed})
		}
	}
	store(s, entries)
}

// failed stores what goes for bodies that cannot be read.
func (r *Rules) failed(s *filter.Stream) {
	r.all(s, func(rule *Rule) *Pair { return rule.Error })
}

func (r *Rules) all(s *filter.Stream, which func(*Rule) *Pair) {
	var entries []entry
	for i := range r.List {
		if p := which(&r.List[i]); p != nil {
			entries = append(entries, entry{p, p.Fixed})
		}
	}
	store(s, entries)
}

// store puts entries into the metadata. What is preserved is what was there before.
func store(s *filter.Stream, entries []entry) {
	kept := entries[:0]
	for _, e := range entries {
		if e.Preserve {
			if _, there := s.Metadata.Namespace(e.Namespace)[e.Key]; there {
				continue
			}
		}
		kept = append(kept, e)
	}
	for _, e := range kept {
		s.Metadata.Set(e.Namespace, e.Key, e.value)
	}
}

var errJSON = errors.New("not one value of JSON")

// decode reads one value of JSON. Its numbers are int64 or float64.
func decode(body []byte) (any, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(body) {
		return nil, errJSON // the decoder would put something else in its place
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errJSON
	}
	return plain(v)
}

// plain turns the numbers in v into int64 and float64. Those beyond their range are
// errors, as in Envoy.
func plain(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			n, err := strconv.ParseInt(v.String(), 10, 64)
			if err == nil {
				return n, nil
			}
			if _, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
				return nil, errJSON
			}
		}
		f, err := v.Float64()
		return f, err
	case []any:
		for i := range v {
			if v[i], err = plain(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key, one := range v {
			if v[key], err = plain(one); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// find is what a rule stores of a value; v is nil where that is nothing. Only bools, numbers
// and texts are values; what is stored in their place needs no more than the object around
// them, as in Envoy, or an array in place of the whole.
func (r *Rule) find(root any) (v any, there bool) {
	last := len(r.Path) - 1
	object, ok := root.(map[string]any)
	for _, key := range r.Path[:last] {
		if object, ok = object[key].(map[string]any); !ok {
			return nil, false
		}
	}
	if p := r.Present; p != nil && p.Fixed != nil {
		if _, list := root.([]any); ok || list {
			return p.Fixed, true
		}
		return nil, false
	}
	switch v := object[r.Path[last]].(type) {
	case bool, int64, float64, string:
		if r.Present == nil {
			return nil, true
		}
		if text, ok := v.(string); ok && len(text) > maxValue {
			return nil, false
		}
		return r.Present.Convert(v)
	}
	return nil, false
}

// maxValue is how long a text may be to be stored.
const maxValue = 8 << 10

// asIs keeps the type of a value.
func asIs(v any) (any, bool) {
	if n, ok := v.(int64); ok {
		return float64(n), true
	}
	return v, true
}

// asNumber makes a number of a value; not every text is one.
func asNumber(v any) (any, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1.0, true
		}
		return 0.0, true
	case int64:
		return float64(v), true
	case string:
		text := strings.TrimSpace(v)
		f, err := strconv.ParseFloat(text, 64)
		return f, (err == nil || math.IsInf(f, 0)) && !strings.ContainsAny(text, "xX_")
	}
	return v, true
}

// asText makes a text of a value, and nothing of an empty one.
func asText(v any) (any, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return "1", true
		}
		return "0", true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', 6, 64), true
	}
	if v == "" {
		return nil, true
	}
	return v, true
}
