package dnsproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxNames = 65536   // names that are answered here
	maxFile  = 8 << 20 // bytes of their file
	// lookAgain is how often the file is looked at, at most.
	lookAgain = time.Second
)

// Names are the names of the mesh and their addresses: some that never change, and those
// of a file, which is read again when it has changed. A file that is wrong leaves the
// names before in place. The zero value has none.
type Names struct {
	fixed map[string][]netip.Addr
	path  string
	stats *Stats
	log   *slog.Logger

	mu      sync.RWMutex
	current map[string][]netip.Addr
	looked  time.Time
	at      time.Time // modification time and size of what was read
	size    int64
}

// NewNames returns the names of fixed, a map from names to addresses, and of the file at
// path, unless that is empty. The file is as /etc/hosts: an address and its names on
// each line. A name that begins with "*." stands for all below it.
func NewNames(fixed map[string][]netip.Addr, path string) (*Names, error) {
	n := &Names{fixed: make(map[string][]netip.Addr), path: path}
	for name, addrs := range fixed {
		c, err := checkName(name)
		if err != nil {
			return nil, err
		}
		n.fixed[c] = addrs
	}
	n.current = n.fixed
	if path != "" {
		return n, n.read()
	}
	return n, nil
}

func (n *Names) attach(st *Stats, log *slog.Logger) {
	n.stats, n.log = st, log
	st.Names.Set(int64(len(n.current)))
}

// checkName returns a name as it is looked up: in small letters, without the last dot.
func checkName(name string) (string, error) {
	c := strings.ToLower(strings.TrimSuffix(name, "."))
	for i, label := range strings.Split(c, ".") {
		wild := i == 0 && label == "*" && len(c) > 2
		if label == "" || len(label) > 63 || len(c) > 253 || !wild && strings.ContainsFunc(label, func(r rune) bool {
			return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
		}) {
			return "", fmt.Errorf("%q is not a host name, or one after *.", name)
		}
	}
	return c, nil
}

// parseNames reads lines of an address and its names; # begins a comment.
func parseNames(b []byte) (map[string][]netip.Addr, error) {
	out := make(map[string][]netip.Addr)
	s := bufio.NewScanner(bytes.NewReader(b))
	for line := 1; s.Scan(); line++ {
		text, _, _ := strings.Cut(s.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		addr, err := netip.ParseAddr(f[0])
		if err != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("line %d: %q is not an IP address", line, f[0])
		}
		for _, name := range f[1:] {
			c, err := checkName(name)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
			if out[c] = append(out[c], addr.Unmap()); len(out) > maxNames {
				return nil, fmt.Errorf("line %d: more than %d names", line, maxNames)
			}
		}
	}
	return out, s.Err()
}

// read reads the file if it has changed.
func (n *Names) read() error {
	st, err := os.Stat(n.path)
	if err != nil {
		return err
	}
	if st.ModTime().Equal(n.at) && st.Size() == n.size {
		return nil
	}
	if st.Size() > maxFile {
		return fmt.Errorf("%s: %d bytes, at most %d are read", n.path, st.Size(), maxFile)
	}
	b, err := os.ReadFile(n.path)
	if err != nil {
		return err
	}
	m, err := parseNames(b)
	if err != nil {
		return fmt.Errorf("%s: %w", n.path, err)
	}
	for name, addrs := range n.fixed {
		m[name] = addrs
	}
	n.current, n.at, n.size = m, st.ModTime(), st.Size()
	return nil
}

// table returns the names, of the newest file.
func (n *Names) table() map[string][]netip.Addr {
	now := time.Now()
	n.mu.RLock()
	m, fresh := n.current, n.path == "" || now.Sub(n.looked) < lookAgain
	n.mu.RUnlock()
	if fresh {
		return m
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looked = now
	if err := n.read(); err != nil {
		n.stats.NamesFailed.Inc()
		n.log.Warn("names of the mesh stay as they are", "error", err)
	}
	n.stats.Names.Set(int64(len(n.current)))
	return n.current
}

// Lookup returns the addresses of a name in small letters without the last dot. ok is
// false for a name that is not of the mesh.
func (n *Names) Lookup(name string) (addrs []netip.Addr, ok bool) {
	m := n.table()
	if addrs, ok = m[name]; ok {
		return addrs, true
	}
	if len(m) == 0 {
		return nil, false
	}
	for rest := name; ; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			return nil, false
		}
		if addrs, ok = m["*"+rest[i:]]; ok {
			return addrs, true
		}
		rest = rest[i+1:]
	}
}

func (n *Names) exact(name string) (addrs []netip.Addr, ok bool) {
	if name == "" {
		return nil, false
	}
	addrs, ok = n.table()[name]
	return addrs, ok
}

// ParseName reads NAME=ADDRESS[,ADDRESS...].
func ParseName(s string) (name string, addrs []netip.Addr, err error) {
	name, list, ok := strings.Cut(s, "=")
	if !ok {
		return "", nil, fmt.Errorf("%q: expected NAME=ADDRESS[,ADDRESS...]", s)
	}
	if name, err = checkName(name); err != nil {
		return "", nil, err
	}
	for text := range strings.SplitSeq(list, ",") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return "", nil, fmt.Errorf("%q is not an IP address", text)
		}
		if a = a.Unmap(); !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return name, addrs, nil
}
