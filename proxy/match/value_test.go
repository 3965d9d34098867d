package match

import "testing"

func TestValue(t *testing.T) {
	text := func(s string) Value { return ValueText(Exact(s, false)) }
	for i, c := range []struct {
		m     Value
		v     any
		there bool
		want  bool
	}{
		{ValueNull(), nil, true, true},
		{ValueNull(), nil, false, false},
		{ValueNull(), "", true, false},
		{ValueNumber(1), 1.0, true, true},
		{ValueNumber(0), nil, false, false},
		{ValueRange(1, 2), 1.5, true, true},
		{ValueRange(1, 2), 2.0, true, false},
		{ValueRange(1, 2), "1", true, false},
		{text("a"), "a", true, true},
		{text(""), nil, true, false},
		{text("a"), []any{"a"}, true, false},
		{ValueBool(false), false, true, true},
		{ValueBool(false), nil, false, false},
		{ValuePresent(true), map[string]any{}, true, true},
		{ValuePresent(true), nil, true, true},
		{ValuePresent(true), nil, false, false},
		{ValuePresent(false), nil, false, false},
		{ValueList(text("b")), []any{"a", "b"}, true, true},
		{ValueList(text("b")), []any{"a", nil}, true, false},
		{ValueList(text("b")), "b", true, false},
		{ValueList(ValueNull()), []any{nil}, true, true},
		{ValueOr([]Value{text("a"), ValueNumber(3)}), 3.0, true, true},
		{ValueOr([]Value{text("a"), ValueNumber(3)}), "b", true, false},
	} {
		if got := c.m.Match(c.v, c.there); got != c.want {
			t.Errorf("case %d: %v (%v): %v", i, c.v, c.there, got)
		}
	}
}
