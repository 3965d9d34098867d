package dns

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// file is a configuration file that is read again when it has changed.
type file[T any] struct {
	path  string
	parse func([]byte) *T

	mu     sync.Mutex
	parsed *T
	at     time.Time // modification time and size of what was parsed
	size   int64
}

// get returns the contents; a file that can't be read is empty.
func (f *file[T]) get() *T {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := os.Stat(f.path)
	if err == nil && f.parsed != nil && st.ModTime().Equal(f.at) && st.Size() == f.size {
		return f.parsed
	}
	b, readErr := os.ReadFile(f.path)
	if err != nil || readErr != nil {
		if f.parsed == nil {
			f.parsed = f.parse(nil)
		}
		return f.parsed
	}
	f.parsed, f.at, f.size = f.parse(b), st.ModTime(), st.Size()
	return f.parsed
}

// config is resolv.conf.
type config struct {
	servers  []string // host:port
	named    bool     // by the file
	search   []string
	ndots    int
	timeout  time.Duration
	attempts int
	rotate   bool
	tcp      bool // use-vc
	udpSize  int
}

// The limits of resolv.conf(5).
const (
	maxServers  = 3
	maxNdots    = 15
	maxTimeout  = 30
	maxAttempts = 5
	maxSearch   = 32
)

func parseConfig(b []byte) *config {
	c := &config{ndots: 1, timeout: 5 * time.Second, attempts: 2, udpSize: udpSize}
	for f := range lines(b, "#;") {
		switch args := f[1:]; f[0] {
		case "nameserver":
			if len(args) == 0 || len(c.servers) >= maxServers {
				continue
			}
			if ip, err := netip.ParseAddr(args[0]); err == nil {
				c.servers = append(c.servers, netip.AddrPortFrom(ip, 53).String())
			} else if ap, err := netip.ParseAddrPort(args[0]); err == nil { // as BSD has it
				c.servers = append(c.servers, ap.String())
			}
		case "domain", "search":
			c.search = nil
			for _, d := range args[:min(len(args), maxSearch)] {
				if d = strings.Trim(d, "."); d != "" {
					c.search = append(c.search, d)
				}
			}
		case "options":
			for _, o := range args {
				c.option(o)
			}
		}
	}
	c.named = len(c.servers) > 0
	if !c.named {
		c.servers = []string{net.JoinHostPort("127.0.0.1", "53")}
	}
	return c
}

func (c *config) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "rotate":
		c.rotate = true
	case name == "use-vc" || name == "usevc" || name == "tcp":
		c.tcp = true
	case err != nil || n < 0:
	case name == "ndots":
		c.ndots = min(n, maxNdots)
	case name == "timeout":
		c.timeout = time.Duration(min(max(n, 1), maxTimeout)) * time.Second
	case name == "attempts":
		c.attempts = min(max(n, 1), maxAttempts)
	}
}

// order returns the servers in the order in which they are asked.
func (c *config) order() []string {
	if !c.rotate || len(c.servers) < 2 {
		return c.servers
	}
	i := rand.IntN(len(c.servers))
	return slices.Concat(c.servers[i:], c.servers[:i])
}

// hosts is the hosts file, by name.
type hosts map[string][]netip.Addr

func parseHosts(b []byte) *hosts {
	h := hosts{}
	for f := range lines(b, "#") {
		ip, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, name := range f[1:] {
			name = hostsKey(name)
			h[name] = append(h[name], ip)
		}
	}
	return &h
}

func hostsKey(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// lookup reports false for a name that is not in the file. One that is there, but
// not in the family that is wanted, has no addresses.
func (h *hosts) lookup(name string, want Want) (Answer, bool) {
	ips, ok := (*h)[hostsKey(name)]
	return pick(want, ips...), ok
}

// lines yields the fields of each line that has any, without comments.
func lines(b []byte, comment string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		sc := bufio.NewScanner(bytes.NewReader(b))
		for sc.Scan() {
			s := sc.Text()
			if i := strings.IndexAny(s, comment); i >= 0 {
				s = s[:i]
			}
			if f := strings.Fields(s); len(f) > 0 && !yield(f) {
				return
			}
		}
	}
}
