package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/mecha-mesh/mecha/xds/control/ca"
)

// Sizes of a token in bytes. The least is what 128 bits of chance need in hexadecimal.
const (
	leastToken = 32
	mostToken  = 4096
)

// entitled decides which workload somebody is. Whatever is not clear is nobody.
type entitled struct {
	tokens string // directory, "" is none
	uids   map[uint32]ca.Identity
	owner  uint32 // the user that this process runs as
	log    *slog.Logger
}

// claim is an identity with what it was shown by, so that it can be checked again.
type claim struct {
	identity ca.Identity
	token    [sha256.Size]byte // zero: by socket or user, which do not change
}

// errNobody is for who shows nothing: there is no identity, and nothing is wrong.
var errNobody = status.Error(codes.PermissionDenied, "this connection shows no identity: secrets of workloads are for workloads")

// who returns the identity of the caller of a stream: by the token that it shows, the
// socket that it came over, or the user that it runs as. A token that is not good is an
// error, whatever else is known.
func (e *entitled) who(ctx context.Context) (claim, error) {
	p, _ := peer.FromContext(ctx)
	var info peerInfo
	if p != nil {
		info, _ = p.AuthInfo.(peerInfo)
	}
	token, shown, err := bearer(ctx)
	switch {
	case err != nil:
		return claim{}, err
	case shown && !info.local:
		return claim{}, status.Error(codes.PermissionDenied, "a token came over a connection that others may read; use a unix socket, and replace the token")
	case shown:
		sum := sha256.Sum256(token)
		id, ok := e.byToken()[sum]
		if !ok || info.socket != nil && *info.socket != id {
			return claim{}, status.Error(codes.Unauthenticated, "the token is that of no workload here")
		}
		return claim{id, sum}, nil
	case !info.local:
		return claim{}, errNobody
	case info.socket != nil:
		if id, other := e.uids[info.uid]; other && id != *info.socket || !other && info.uid != e.owner && info.uid != 0 {
			return claim{}, status.Errorf(codes.PermissionDenied, "user %d is not who this socket is for", info.uid)
		}
		return claim{identity: *info.socket}, nil
	}
	if id, ok := e.uids[info.uid]; ok {
		return claim{identity: id}, nil
	}
	return claim{}, errNobody
}

// still reports whether a claim would be accepted today.
func (e *entitled) still(c claim) bool {
	if c.token == ([sha256.Size]byte{}) {
		return true
	}
	id, ok := e.byToken()[c.token]
	return ok && id == c.identity
}

// bearer is the token of a call.
func bearer(ctx context.Context) (token []byte, shown bool, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) == 0 {
		return nil, false, nil
	}
	kind, text, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(kind, "bearer") || len(text) < leastToken || len(text) > mostToken {
		return nil, true, status.Error(codes.Unauthenticated, "authorization: expected one bearer token")
	}
	return []byte(text), true, nil
}

// byToken reads all tokens: files TOKENS/NAMESPACE/SERVICE-ACCOUNT. They are looked up by
// their digests, so that how long it takes says nothing about a token. One that cannot be
// used is nobody's, and so is one that two workloads have.
func (e *entitled) byToken() map[[sha256.Size]byte]ca.Identity {
	out := map[[sha256.Size]byte]ca.Identity{}
	if e.tokens == "" {
		return out
	}
	files, err := filepath.Glob(filepath.Join(e.tokens, "*", "*"))
	if err != nil {
		e.log.Error("tokens cannot be read", "error", err)
	}
	twice := map[[sha256.Size]byte]bool{}
	for _, f := range files {
		id, token, err := readToken(f)
		if err != nil {
			e.log.Error("a token cannot be used", "file", f, "error", err)
			continue
		}
		sum := sha256.Sum256(token)
		if other, taken := out[sum]; taken {
			e.log.Error("two workloads have one token, which is good for neither", "one", id.String(), "other", other.String())
			twice[sum] = true
		}
		out[sum] = id
	}
	for sum := range twice {
		delete(out, sum)
	}
	return out
}

func readToken(path string) (id ca.Identity, token []byte, err error) {
	id, err = ca.ParseIdentity(filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path))
	if err != nil {
		return id, nil, err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return id, nil, err
	case !info.Mode().IsRegular():
		return id, nil, fmt.Errorf("is no file")
	case info.Mode().Perm()&0o077 != 0:
		return id, nil, fmt.Errorf("others than its owner may read it (%v)", info.Mode().Perm())
	case info.Size() > mostToken:
		return id, nil, fmt.Errorf("has %d bytes", info.Size())
	}
	if token, err = os.ReadFile(path); err != nil {
		return id, nil, err
	}
	if token = bytes.TrimSpace(token); len(token) < leastToken {
		return id, nil, fmt.Errorf("has %d bytes; a token has at least %d", len(token), leastToken)
	}
	return id, token, nil
}
