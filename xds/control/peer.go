package control

import (
	"context"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"

	"github.com/mecha-mesh/mecha/xds/control/ca"
)

// workloadListener is a socket for one workload: who reaches it is that workload.
type workloadListener struct {
	net.Listener
	identity ca.Identity
}

// Accept implements net.Listener.
func (l workloadListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return workloadConn{c, l.identity}, nil
}

type workloadConn struct {
	net.Conn
	identity ca.Identity
}

// peerInfo is what is known of who has opened a connection.
type peerInfo struct {
	credentials.CommonAuthInfo
	// local tells that it came over a unix socket, where nobody can listen; uid is whose
	// process opened it, as the kernel says.
	local bool
	uid   uint32
	// socket is whose socket it came over, nil for one that is for all.
	socket *ca.Identity
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "local" }

// peerCredentials are credentials.TransportCredentials of a server that only looks at who
// connects. It encrypts nothing, so secrets are for local connections.
type peerCredentials struct{}

// ServerHandshake implements credentials.TransportCredentials.
func (peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	info := peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}
	inner := c
	if w, ok := c.(workloadConn); ok {
		inner, info.socket = w.Conn, &w.identity
	}
	u, ok := inner.(*net.UnixConn)
	if !ok {
		return c, info, nil
	}
	uid, err := uidOf(u)
	if err != nil {
		return nil, nil, err // gRPC closes the connection
	}
	info.local, info.uid = true, uid
	info.SecurityLevel = credentials.PrivacyAndIntegrity
	return c, info, nil
}

// uidOf is the user whose process has opened a connection.
func uidOf(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	switch {
	case controlErr != nil:
		return 0, controlErr
	case err != nil:
		return 0, err
	}
	return cred.Uid, nil
}

// ClientHandshake implements credentials.TransportCredentials; nobody calls it.
func (peerCredentials) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, nil, nil
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "local"}
}

// Clone implements credentials.TransportCredentials.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials; it is deprecated there.
func (peerCredentials) OverrideServerName(string) error { return nil }
