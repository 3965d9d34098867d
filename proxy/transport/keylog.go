package transport

import (
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// KeyLog writes the secrets of sessions to a file, for packet analysers (TlsKeyLog). It
// is the only thing that writes any; it has to be asked for.
type KeyLog struct {
	Path          string
	Local, Remote match.CIDRs // empty is everybody

	mu   sync.Mutex
	file *os.File
}

// wants reports whether the sessions of a connection are to be logged.
func (k *KeyLog) wants(c *netio.Conn) bool {
	in := func(list match.CIDRs, a meta.Addr) bool {
		ip := a.Addr()
		return len(list) == 0 || ip.IsValid() && slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return k != nil && in(k.Local, meta.AddrOf(c.LocalAddr())) && in(k.Remote, meta.AddrOf(c.RemoteAddr()))
}

// Write implements io.Writer: one line. The file is opened with the first.
func (k *KeyLog) Write(line []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file == nil {
		f, err := os.OpenFile(k.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return len(line), nil //nolint:nilerr // a log that cannot be written must not end connections
		}
		k.file = f
	}
	_, _ = k.file.Write(line) // as above
	return len(line), nil
}
