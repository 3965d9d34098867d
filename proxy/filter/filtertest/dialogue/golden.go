package dialogue

import (
	"os"
	"strings"
)

// Golden compares what came of several cases with a file, case by case, or writes the file
// anew where -rewrite is given. Each case begins with a line "=== NAME".
func Golden[T Test[T]](t T, file, got string) {
	t.Helper()
	if Rewriting() {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := ReadGolden(t, file)
	for _, c := range strings.Split(got, "=== ")[1:] {
		name, text, _ := strings.Cut(c, "\n")
		t.Run(name, func(t T) {
			if text != want[name] {
				t.Errorf("-: wanted, +: got\n%s", difference(want[name], text))
			}
		})
	}
}

// ReadGolden reads such a file; nil where it is to be written anew.
func ReadGolden(t TB, file string) map[string]string {
	t.Helper()
	if Rewriting() {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, c := range strings.Split(string(raw), "=== ")[1:] {
		name, text, _ := strings.Cut(c, "\n")
		want[name] = text
	}
	return want
}

// difference are the lines that only one of two texts has.
func difference(a, b string) string {
	var sb strings.Builder
	for _, side := range []struct{ mark, text, other string }{{"-", a, b}, {"+", b, a}} {
		for line := range strings.Lines(side.text) {
			if !strings.Contains("\n"+side.other, "\n"+line) {
				sb.WriteString(side.mark + line)
			}
		}
	}
	return sb.String()
}
