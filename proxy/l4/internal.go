package l4

import (
	"context"
	"fmt"
	"net"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// internalClient is where connections to internal listeners come from, as Envoy has it.
var internalClient = meta.InternalAddr("internal_client_address", "")

// DialInternal connects to an internal listener and returns the client's end. The
// listener's end knows what the dialer passes, before its listener filters run.
func (m *Manager) DialInternal(_ context.Context, to meta.Addr, with meta.Passed) (*netio.Conn, error) {
	var l *Listener
	if all := m.internal.Load(); all != nil {
		l = (*all)[to.Internal()]
	}
	if l == nil || l.stopped.Load() {
		return nil, fmt.Errorf("l4: no internal listener %q", to.Internal())
	}
	ours, theirs, err := netio.Pair()
	if err != nil {
		return nil, err
	}
	if !m.take() {
		_, _ = ours.Close(), theirs.Close() // nothing was sent
		return nil, net.ErrClosed
	}
	go l.serveConn(theirs, func(c *conn) {
		c.meta.Local, c.meta.Remote, c.meta.Direct = to, internalClient, internalClient
		for namespace, values := range with.Metadata {
			for key, v := range values {
				c.fc.Metadata.Set(namespace, key, v)
			}
		}
		c.fc.State.Receive(with.State)
	})
	return netio.NewConn(ours), nil
}

// take counts one more connection for Close to wait for, unless it waits already.
func (m *Manager) take() bool {
	m.gate.Lock()
	defer m.gate.Unlock()
	if m.closing.Load() {
		return false
	}
	m.wg.Add(1)
	return true
}
