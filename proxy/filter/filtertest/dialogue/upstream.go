package dialogue

import (
	"net"
	"os"
	"time"
)

// upstream is the recording upstream of one cluster: its hosts are listeners whose
// connections come out of one queue.
type upstream struct {
	hosts []net.Listener
	queue chan net.Conn
}

// maxWaiting is how many connections may wait to be taken up by the script.
const maxWaiting = 64

func newUpstream(hosts int) (*upstream, error) {
	s := &upstream{queue: make(chan net.Conn, maxWaiting)}
	for range hosts {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.close()
			return nil, err
		}
		s.hosts = append(s.hosts, l)
		go s.accept(l)
	}
	return s, nil
}

func (s *upstream) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case s.queue <- c:
		default:
			c.Close() // more than any script has
		}
	}
}

// next is the next connection that the proxy makes, within the time.
func (s *upstream) next(d time.Duration) (net.Conn, error) {
	select {
	case c := <-s.queue:
		return c, nil
	default:
	}
	if d <= 0 {
		return nil, os.ErrDeadlineExceeded
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case c := <-s.queue:
		return c, nil
	case <-t.C:
		return nil, os.ErrDeadlineExceeded
	}
}

func (s *upstream) addresses() []string {
	var out []string
	for _, l := range s.hosts {
		out = append(out, l.Addr().String())
	}
	return out
}

func (s *upstream) close() {
	for _, l := range s.hosts {
		l.Close()
	}
	for {
		select {
		case c := <-s.queue:
			c.Close()
		default:
			return
		}
	}
}
