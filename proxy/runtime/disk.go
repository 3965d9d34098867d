package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Limits of a disk layer: Envoy's depth, and a size that no value has by intention.
const (
	maxDepth     = 16
	maxValueSize = 64 << 10
	maxKeys      = 100_000
)

// readDisk reads a disk layer: each file below dir is a key, its directories joined by
// dots. The result is nil where dir is not there, and where it cannot be read.
func readDisk(dir string) (map[string]string, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, nil //nolint:nilerr // Envoy takes a missing override directory for an empty one
	}
	values := map[string]string{}
	if err := walk(dir, "", 1, values); err != nil {
		return nil, err
	}
	return values, nil
}

func walk(dir, prefix string, depth int, into map[string]string) error {
	if depth > maxDepth {
		return fmt.Errorf("runtime: %s: more than %d levels of directories", dir, maxDepth)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("runtime: %w", err)
	}
	for _, f := range list {
		path, key := filepath.Join(dir, f.Name()), prefix+f.Name()
		info, err := os.Stat(path) // follows links
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile, or a link to nowhere
			continue
		case err != nil:
			return fmt.Errorf("runtime: %w", err)
		case info.IsDir():
			if err := walk(path, key+".", depth+1, into); err != nil {
				return err
			}
			continue
		case !info.Mode().IsRegular():
			continue
		}
		if info.Size() > maxValueSize || len(into) >= maxKeys {
			return fmt.Errorf("runtime: %s: more than %d bytes, or more than %d keys", path, maxValueSize, maxKeys)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("runtime: %w", err)
		}
		into[key] = withoutComments(string(content))
	}
	return nil
}

// withoutComments drops the lines that begin with "#", empty lines, and white space
// after the last line: what Envoy makes of a file.
func withoutComments(content string) string {
	lines := strings.FieldsFunc(content, func(r rune) bool { return r == '\n' })
	var out strings.Builder
	for i, line := range lines {
		switch {
		case line[0] == '#':
		case i == len(lines)-1:
			out.WriteString(strings.TrimRight(line, " \t\f\v\r"))
		default:
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}
