package main

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// cgroupMemoryLimit returns the memory limit of the process's cgroup in bytes:
// the smallest one from its own group up to the root, in either version of the
// interface. root is the file system at /.
func cgroupMemoryLimit(root fs.FS) (int64, bool) {
	const mount = "sys/fs/cgroup"
	limit := int64(math.MaxInt64)
	for line := range strings.SplitSeq(readFile(root, "proc/self/cgroup"), "\n") {
		// hierarchy-ID:controllers:path, with no controllers in version 2.
		_, rest, _ := strings.Cut(line, ":")
		controllers, group, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		dir, file := mount, "memory.max"
		switch {
		case controllers == "":
		case hasController(controllers, "memory"):
			dir, file = mount+"/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// Inside a container the path may not be visible below the mount, but
		// the mount itself is then the container's own group.
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			text := strings.TrimSpace(readFile(root, path.Join(dir, group, file)))
			if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
				limit = min(limit, n)
			}
			if group == "/" {
				break
			}
		}
	}
	// Version 1 writes "no limit" as a number near the largest.
	const unlimited = 1 << 60
	return limit, limit < unlimited
}

func hasController(list, name string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if c == name {
			return true
		}
	}
	return false
}

// readFile returns the file's text, or nothing.
func readFile(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return string(b)
}
