package main

import (
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func TestCodeOf(t *testing.T) {
	const smaps = `00400000-01407000 r-xp 00000000 fe:00 12 /opt/a b/mecha
Rss:               14836 kB
Anonymous:             0 kB
01407000-0286b000 r--p 01007000 fe:00 12 /opt/a b/mecha
Anonymous:             0 kB
0286b000-02870000 r--p 0246b000 fe:00 12 /opt/a b/mecha
Anonymous:            20 kB
02870000-02912000 rw-p 02470000 fe:00 12 /opt/a b/mecha
Anonymous:             0 kB
7f0000000000-7f0000010000 r-xp 00000000 fe:00 13 /lib/libc.so.6
Anonymous:             0 kB
7f0000020000-7f0000030000 r--p 00000000 00:00 0 
Anonymous:             0 kB
`
	var got []uintptr
	for _, m := range codeOf(strings.NewReader(smaps), 0x500000) {
		got = append(got, m.from, m.to)
	}
	if want := []uintptr{0x400000, 0x1407000, 0x1407000, 0x286b000}; !reflect.DeepEqual(got, want) {
		t.Errorf("%#x, want %#x: what is written to, changed or another file's stays", got, want)
	}
	if m := codeOf(strings.NewReader(smaps), 0x7f0000025000); m != nil {
		t.Errorf("%v is code of a mapping without a file", m)
	}
}

// What was dropped comes back: the test goes on running.
func TestDropCode(t *testing.T) {
	before := resident(t)
	dropCode()
	if after := resident(t); after >= before {
		t.Errorf("%d kB of this program's files are resident, %d before", after, before)
	}
}

// resident is how much of this program's own file is resident, in kB.
func resident(t *testing.T) (kB int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(f[0], "-"):
			ours = f[len(f)-1] == self && f[1][1] == '-'
		case ours && f[0] == "Rss:":
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			kB += n
		}
	}
	return kB
}
