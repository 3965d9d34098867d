package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// backend is what the proxies forward to: an HTTP/1.1, an HTTP/2 and a TCP server
// on one thread, doing as little as possible.
type backend struct {
	loop     *loop
	httpFD   int
	tcpFD    int
	h2FD     int
	httpPort int
	tcpPort  int
	h2Port   int
	tls      *tlsBackend
	stop     atomic.Bool
	done     chan struct{}
}

const postAnswer = "ok"

func startBackend(c *certs) (*backend, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	b := &backend{loop: l, done: make(chan struct{})}
	if b.httpFD, b.httpPort, err = listen(); err != nil {
		return nil, err
	}
	if b.tcpFD, b.tcpPort, err = listen(); err != nil {
		return nil, err
	}
	if b.h2FD, b.h2Port, err = listen(); err != nil {
		return nil, err
	}
	for _, fd := range []int{b.httpFD, b.tcpFD, b.h2FD} {
		if err := l.watch(fd); err != nil {
			return nil, err
		}
	}
	if b.tls, err = startTLSBackend(c); err != nil {
		return nil, err
	}
	go b.serve()
	return b, nil
}

// port is where the proxies of a configuration find it.
func (b *backend) port(config string) int {
	switch config {
	case "tcp":
		return b.tcpPort
	case "h2":
		return b.h2Port
	case "mtls":
		return b.tls.port()
	}
	return b.httpPort
}

// close stops the thread and waits for it.
func (b *backend) close() {
	b.stop.Store(true)
	<-b.done
	b.loop.close()
	b.tls.close()
	unix.Close(b.httpFD)
	unix.Close(b.tcpFD)
	unix.Close(b.h2FD)
}

func (b *backend) serve() {
	defer close(b.done)
	runtime.LockOSThread()
	answers, muxed := httpAnswers(), muxAnswers()
	chunk := make([]byte, bulkChunk)
	for !b.stop.Load() {
		err := b.loop.turn(50, func(fd int) error {
			conn, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				return nil // the peer gave up meanwhile
			}
			if err := prepare(conn); err != nil {
				unix.Close(conn)
				return nil
			}
			var h handler
			switch fd {
			case b.tcpFD:
				h = &tcpServer{chunk: chunk}
			case b.h2FD:
				h = newMuxServer(muxed)
			default:
				h = &httpServer{answers: answers}
			}
			_, err = b.loop.add(conn, h)
			return err
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: back end:", err)
			return
		}
	}
}

// httpAnswers prepares the answer to each path.
func httpAnswers() map[string][]byte {
	answers := map[string][]byte{"/post": httpAnswer([]byte(postAnswer))}
	for path, size := range bodySizes {
		answers[path] = httpAnswer(bytes.Repeat([]byte("x"), size))
	}
	return answers
}

func httpAnswer(body []byte) []byte {
	head := "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	return append([]byte(head), body...)
}

// httpServer answers the requests of one connection.
type httpServer struct {
	answers map[string][]byte
	answer  []byte // of the request whose body is being skipped
}

func (h *httpServer) data(s *sock, b []byte) (int, error) {
	head, length, err := httpHead(b)
	if head == 0 || err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b[:head], []byte(" "))
	path, _, _ := bytes.Cut(rest, []byte(" "))
	answer := h.answers[string(path)]
	if answer == nil {
		return 0, fmt.Errorf("a request for %q", path)
	}
	if length > 0 {
		h.answer, s.skip = answer, length
		return head, nil
	}
	return head, s.send(answer, 0)
}

func (h *httpServer) skipped(s *sock) error { return s.send(h.answer, 0) }

func (h *httpServer) gone(*sock, error) {}

// bulkChunk is what the TCP server writes at once; larger answers are multiples.
const bulkChunk = 256 << 10

// tcpServer answers each pingSize message with as many bytes as it asks for.
type tcpServer struct{ chunk []byte }

func (t *tcpServer) data(s *sock, b []byte) (int, error) {
	if len(b) < pingSize {
		return 0, nil
	}
	n := binary.BigEndian.Uint64(b)
	switch {
	case n <= bulkChunk:
		return pingSize, s.send(t.chunk[:n], 0)
	case n%bulkChunk == 0 && n < 1<<40:
		return pingSize, s.send(t.chunk, int(n/bulkChunk)-1)
	}
	return 0, fmt.Errorf("asked for %d bytes: want at most %d or a multiple of it", n, bulkChunk)
}

func (t *tcpServer) skipped(*sock) error { return errors.New("nothing to skip") }

func (t *tcpServer) gone(*sock, error) {}

// listen opens a listening socket on loopback at a port of the kernel's choice.
func listen() (fd, port int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, os.NewSyscallError("socket", err)
	}
	addr := &unix.SockaddrInet4{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}).As4()}
	if err := unix.Bind(fd, addr); err != nil {
		return -1, 0, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return -1, 0, os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, os.NewSyscallError("getsockname", err)
	}
	return fd, name.(*unix.SockaddrInet4).Port, nil
}
