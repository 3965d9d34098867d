package main

import (
	"bufio"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mapping is a piece of the address space, from one line of /proc/self/smaps and what
// belongs to it.
type mapping struct {
	from, to uintptr
	perms    string
	path     string
	own      bool // some of its pages are not those of the file any more
}

// dropCode takes the pages of this program's own file (code, constants, tables) out of the
// process. Most of those that were touched at the start are of no use afterwards: every
// package of protobuf messages registers itself. Those that are come back from the page
// cache when they are touched, sixteen with a fault.
func dropCode() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // it would only have been nice
	}
	defer f.Close()
	for _, m := range codeOf(f, reflect.ValueOf(dropCode).Pointer()) {
		// Locked memory stays, which whoever locked it wants.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

// codeOf returns the mappings of the file that has the code at pc which cannot be written
// to and have pages of the file only: those with others (relocations, break points) would
// not come back as they are.
func codeOf(smaps io.Reader, pc uintptr) (code []mapping) {
	all := mappings(smaps)
	path := ""
	for _, m := range all {
		if m.from <= pc && pc < m.to {
			path = m.path
		}
	}
	for _, m := range all {
		if path != "" && m.path == path && !m.own && (m.perms == "r-xp" || m.perms == "r--p") {
			code = append(code, m)
		}
	}
	return code
}

// mappings reads /proc/self/smaps.
func mappings(smaps io.Reader) (all []mapping) {
	for s := bufio.NewScanner(smaps); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 2 {
			continue
		}
		if from, to, ok := strings.Cut(f[0], "-"); ok {
			a, err1 := strconv.ParseUint(from, 16, 64)
			b, err2 := strconv.ParseUint(to, 16, 64)
			if err1 == nil && err2 == nil {
				m := mapping{from: uintptr(a), to: uintptr(b), perms: f[1]}
				if len(f) > 5 {
					m.path = strings.Join(f[5:], " ")
				}
				all = append(all, m)
				continue
			}
		}
		if f[0] == "Anonymous:" && len(all) > 0 {
			all[len(all)-1].own = f[1] != "0"
		}
	}
	return all
}
