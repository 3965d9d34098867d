package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message: the kernel's default socket buffer. What does
// not fit is an environment or command line beyond reason.
const (
	maxMessage = 192 << 10
	maxFiles   = 8
)

// wire carries JSON messages and open files between the processes of a node: a
// Unix socket that keeps message boundaries. When one side ends, however it
// ends, the other reads io.EOF.
type wire struct {
	c  *net.UnixConn
	mu sync.Mutex // serialises sends
}

// newWire returns one end as a wire and the other as a file to pass on.
func newWire() (*wire, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("pod: socket pair: %w", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "wire"), os.NewFile(uintptr(fds[1]), "wire")
	w, err := wireFrom(near)
	if err != nil {
		far.Close() //nolint:errcheck // nothing was written to it
		return nil, nil, err
	}
	return w, far, nil
}

// wireFrom consumes f.
func wireFrom(f *os.File) (*wire, error) {
	defer f.Close() //nolint:errcheck // FileConn has its own descriptor
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("pod: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close() //nolint:errcheck // not ours
		return nil, errors.New("pod: not a unix socket")
	}
	return &wire{c: u}, nil
}

func (w *wire) close() { w.c.Close() } //nolint:errcheck // the other side notices either way

// send sends v and copies of files, which are lent.
func (w *wire) send(v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("pod: %w", err)
	}
	if len(b) > maxMessage {
		return fmt.Errorf("pod: command line, environment and configuration are %d bytes together, at most %d fit", len(b), maxMessage)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _, err = w.c.WriteMsgUnix(b, oob, nil)
	return err
}

// receive reads one message into v. The files are the caller's.
func (w *wire) receive(v any) ([]*os.File, error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := w.c.ReadMsgUnix(b, oob)
	if err != nil || n == 0 {
		if err == nil || errors.Is(err, unix.ECONNRESET) {
			err = io.EOF
		}
		return nil, err
	}
	files, err := receivedFiles(oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("pod: message too long")
	}
	if err == nil {
		err = json.Unmarshal(b[:n], v)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func receivedFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("pod: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials or the like
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close() //nolint:errcheck // a copy of someone's descriptor
		}
	}
}
