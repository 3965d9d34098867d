package bootstrap

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// nearestField finds the field of md whose name is a likely misspelling of key,
// or returns nil.
func nearestField(key string, md protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if len(key) > 64 || strings.HasPrefix(key, "@") {
		return nil
	}
	want := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(key))
	var best protoreflect.FieldDescriptor
	bestDistance := 1 + len(want)/4
	fds := md.Fields()
	for i := range fds.Len() {
		name := string(fds.Get(i).Name())
		have := strings.ReplaceAll(name, "_", "")
		if strings.HasPrefix(name, "hidden_envoy_deprecated_") || len(have) > 64 {
			continue
		}
		if dist := editDistance(want, have); dist <= bestDistance && (best == nil || dist < bestDistance) {
			best, bestDistance = fds.Get(i), dist
		}
	}
	return best
}

// editDistance counts the insertions, deletions and substitutions between a
// and b, both at most 64 bytes long.
func editDistance(a, b string) int {
	var row [65]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
