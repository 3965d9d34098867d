package pod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SocketName is the socket in a node's directory, by which other processes of
// the same user attach to it.
const SocketName = "node.sock"

// Serve lets other processes attach to the node through a socket in dir, which
// must exist and must not be accessible to other users. It returns when ctx or
// the node ends, and removes the socket. A pod that another process starts ends
// with that process.
func (n *Node) Serve(ctx context.Context, dir string) error {
	if info, err := os.Stat(dir); err != nil {
		return fmt.Errorf("pod: node directory: %w", err)
	} else if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("pod: node directory %s: other users can get in; chmod 700 it", dir)
	}
	path := filepath.Join(dir, SocketName)
	addr := &net.UnixAddr{Name: path, Net: "unixpacket"}
	if c, err := net.DialUnix("unixpacket", nil, addr); err == nil {
		c.Close() //nolint:errcheck // only a question
		return fmt.Errorf("pod: node directory %s: another node is running there", dir)
	}
	_ = os.Remove(path) // left by a node that was killed
	l, err := net.ListenUnix("unixpacket", addr)
	if err != nil {
		return fmt.Errorf("pod: node directory: %w", err)
	}
	for _, end := range []context.Context{ctx, n.ctx} {
		stop := context.AfterFunc(end, func() { l.Close() }) //nolint:errcheck // ends Accept below
		defer stop()
	}
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("pod: node socket: %w", err)
		}
		n.wg.Go(func() { n.answer(ctx, c) })
	}
}

// answer serves one request of another process. The connection carries just
// that one.
func (n *Node) answer(ctx context.Context, c *net.UnixConn) {
	w := &wire{c: c}
	defer w.close()
	if !sameUser(c) {
		_ = w.send(reply{Failure: failureOf("", errors.New("pod: this node belongs to another user"))})
		return
	}
	var rq request
	files, err := w.receive(&rq)
	if err != nil {
		return
	}
	defer closeAll(files)
	a, err := n.ask(ctx, rq, files...)
	if err != nil {
		a.reply = reply{Failure: failureOf("", err)}
	}
	_ = w.send(a.reply, a.files...)
	closeAll(a.files)
}

func sameUser(c *net.UnixConn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	cerr := rc.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cerr == nil && err == nil && int(cred.Uid) == os.Geteuid()
}

// Attach returns the node that another process serves in dir.
func Attach(ctx context.Context, dir string, log *slog.Logger) (*Node, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Node{log: log}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.ask = func(ctx context.Context, rq request, files ...*os.File) (answer, error) {
		return askOver(ctx, filepath.Join(dir, SocketName), rq, files)
	}
	a, err := n.ask(ctx, request{Op: "hello"})
	if err != nil {
		n.stop()
		return nil, err
	}
	n.net = a.Place.Net
	return n, nil
}

func askOver(ctx context.Context, path string, rq request, files []*os.File) (answer, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return answer{}, fmt.Errorf("pod: no node there; start one with mecha run node: %w", err)
	}
	w := &wire{c: c.(*net.UnixConn)}
	defer w.close()
	stop := context.AfterFunc(ctx, w.close)
	defer stop()
	if err := w.send(rq, files...); err != nil {
		return answer{}, fmt.Errorf("pod: node: %w", err)
	}
	var a answer
	if a.files, err = w.receive(&a.reply); err != nil {
		return answer{}, fmt.Errorf("pod: node: %w", errors.Join(err, ctx.Err()))
	}
	if a.Failure != nil {
		closeAll(a.files)
		return answer{}, a.Failure.err()
	}
	return a, nil
}
