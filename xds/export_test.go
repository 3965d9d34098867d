package xds

import (
	"strings"
	"time"
	"weak"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/secret"
)

// Over makes a subscriber what everything that refers to ADS is asked of.
func (m *Manager) Over(s Subscriber, delta bool) { m.ads, m.adsDelta = s, delta }

// StartAfter is Start once an RTDS layer has come.
func (m *Manager) StartAfter(layer string, timeout time.Duration, s Sources) {
	m.startRuntime([]string{layer}, map[string]filter.ConfigSource{layer: {Timeout: timeout}}, func() { m.Start(s) })
}

// UsedScopes are the names of the scopes that listeners refer to.
func (m *Manager) UsedScopes() (names []string) {
	for key := range m.scoped {
		name, _, _ := strings.Cut(key, "\x00")
		names = append(names, name)
	}
	return names
}

// HeldCertificate is the certificate that the secrets of a name hold now; it does not keep it.
func (m *Manager) HeldCertificate(name string) weak.Pointer[secret.Certificate] {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ref, s := range m.secretTable {
		if ref.name == name {
			return weak.Make(s.certificate.Current())
		}
	}
	return weak.Pointer[secret.Certificate]{}
}
