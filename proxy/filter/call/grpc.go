package call

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Status is how a gRPC call failed
// (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
type Status struct {
	Code    int
	Message string
}

func (s *Status) Error() string { return fmt.Sprintf("call: gRPC status %d: %s", s.Code, s.Message) }

// ErrMessage is an answer that is no gRPC message.
var ErrMessage = errors.New("call: the answer is no gRPC message")

// Unary makes a gRPC call with one message each way
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). method is
// "/package.Service/Method"; entry, which may be nil, describes the stream to the formats
// of initial_metadata. The error is a *Status where the service has given one; Ended tells
// whether it is the waiter's end.
func (c *Client) Unary(w Waiter, t *GRPC, method string, entry *accesslog.Entry, message []byte) ([]byte, error) {
	q := &Request{Cluster: t.Cluster, Timeout: t.Timeout, Limit: t.MaxMessage, Plain: t.Plain}
	if t.Timeout > 0 {
		q.Header.AddID(header.GrpcTimeout, timeoutText(t.Timeout))
	}
	t.head(&q.Header, method, entry)
	q.Body.Append(message)
	filter.PrependGRPC(&q.Body, 0)
	var a Response
	if err := c.Do(w, q, &a); err != nil {
		return nil, err
	}
	return a.message()
}

// value makes the value of a field; "" leaves it out.
func (m *Metadata) value(h *header.Map, entry *accesslog.Entry) string {
	switch {
	case m.Format == nil:
		return m.Value
	case entry == nil:
		return ""
	}
	return h.Format(func(dst []byte) []byte {
		start := len(dst)
		dst = m.Format.Append(dst, entry)
		for i := start; i < len(dst); i++ {
			if dst[i] < ' ' || dst[i] == 0x7f {
				dst[i] = ' '
			}
		}
		return dst
	})
}

// timeoutText is a time limit in the header grpc-timeout: eight digits at most.
func timeoutText(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Millisecond, "m"}, {time.Second, "S"}, {time.Minute, "M"}} {
		if n := d / u.unit; n < 100_000_000 {
			return strconv.FormatInt(int64(max(n, 1)), 10) + u.name
		}
	}
	return "99999999H"
}

// message returns the only message of a response.
func (a *Response) message() ([]byte, error) {
	if err := a.status(); err != nil {
		return nil, err
	}
	if len(a.Body) < filter.GRPCPrefix || a.Body[0] != 0 || uint64(binary.BigEndian.Uint32(a.Body[1:])) != uint64(len(a.Body)-filter.GRPCPrefix) {
		return nil, ErrMessage
	}
	return a.Body[filter.GRPCPrefix:], nil
}
