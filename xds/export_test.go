package xds

// Over makes a subscriber what everything that refers to ADS is asked of.
func (m *Manager) Over(s Subscriber, delta bool) { m.ads, m.adsDelta = s, delta }
