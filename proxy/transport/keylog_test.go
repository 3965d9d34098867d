package transport

import (
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// TestKeyLog: the secrets of sessions are written for those whom it is about, on both sides,
// to a file that nobody else may read, and a log that cannot be written ends no connection.
func TestKeyLog(t *testing.T) {
	ca := newAuthority(t, "ca")
	dir := t.TempDir()
	local := match.CIDRs{netip.MustParsePrefix("127.0.0.0/8")}
	other := match.CIDRs{netip.MustParsePrefix("10.0.0.0/8")}
	for name, c := range map[string]struct {
		log  *KeyLog
		want bool
	}{
		"all":        {&KeyLog{}, true},
		"this":       {&KeyLog{Local: local, Remote: local}, true},
		"not local":  {&KeyLog{Local: other}, false},
		"not remote": {&KeyLog{Remote: other}, false},
		"no/folder":  {&KeyLog{}, false},
	} {
		for _, server := range []bool{true, false} {
			down, up := &DownstreamTLS{TLS: contextOf(ca.issue(&x509.Certificate{}))}, &UpstreamTLS{TLS: contextOf()}
			log := &KeyLog{Path: filepath.Join(dir, name), Local: c.log.Local, Remote: c.log.Remote}
			if server {
				down.KeyLog = log
			} else {
				up.KeyLog = log
			}
			_ = os.Remove(log.Path) // of the other side
			if _, _, cerr, serr := shake(t, down, up, nil, &meta.Conn{}, &TLSStats{}); cerr != nil || serr != nil {
				t.Fatal(name, cerr, serr)
			}
			text, err := os.ReadFile(log.Path)
			if got := strings.Contains(string(text), "CLIENT_TRAFFIC_SECRET_0 "); got != c.want || c.want && err != nil {
				t.Errorf("%s, server %t: logged is %t, %v", name, server, got, err)
			}
			if info, err := os.Stat(log.Path); err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("others may read it: %v", info.Mode())
			}
		}
	}
}
