package match

// Value matches a value of dynamic metadata (envoy.type.matcher.v3.ValueMatcher). Such
// values are those of JSON: nil, bool, float64, string, []any, map[string]any.
type Value struct {
	kind      valueKind
	text      String
	low, high float64 // high excluded
	yes       bool
	of        []Value // of a list: one; of an alternative: any
}

type valueKind uint8

const (
	valueNull valueKind = iota
	valueNumber
	valueRange
	valueText
	valueBool
	valuePresent
	valueList
	valueOr
)

// ValueNull matches null, which is not the same as no value.
func ValueNull() Value { return Value{kind: valueNull} }

// ValueNumber matches a number that is equal to n.
func ValueNumber(n float64) Value { return Value{kind: valueNumber, low: n} }

// ValueRange matches a number from low to high, high excluded.
func ValueRange(low, high float64) Value { return Value{kind: valueRange, low: low, high: high} }

// ValueText matches a string.
func ValueText(s String) Value { return Value{kind: valueText, text: s} }

// ValueBool matches that boolean.
func ValueBool(yes bool) Value { return Value{kind: valueBool, yes: yes} }

// ValuePresent matches any value that is there; unless wanted, it matches nothing.
func ValuePresent(wanted bool) Value { return Value{kind: valuePresent, yes: wanted} }

// ValueList matches a list with an element that matches one.
func ValueList(one Value) Value { return Value{kind: valueList, of: []Value{one}} }

// ValueOr matches what one of the alternatives matches.
func ValueOr(alternatives []Value) Value { return Value{kind: valueOr, of: alternatives} }

// Match reports whether v matches; there tells whether there is a value at all.
func (m *Value) Match(v any, there bool) bool {
	switch m.kind {
	case valueNull:
		return there && v == nil
	case valueNumber:
		n, ok := v.(float64)
		return ok && n == m.low
	case valueRange:
		n, ok := v.(float64)
		return ok && m.low <= n && n < m.high
	case valueText:
		s, ok := v.(string)
		return ok && m.text.Match(s)
	case valueBool:
		b, ok := v.(bool)
		return ok && b == m.yes
	case valuePresent:
		return there && m.yes
	case valueList:
		list, _ := v.([]any)
		for _, e := range list {
			if m.of[0].Match(e, true) {
				return true
			}
		}
		return false
	}
	for i := range m.of {
		if m.of[i].Match(v, there) {
			return true
		}
	}
	return false
}
