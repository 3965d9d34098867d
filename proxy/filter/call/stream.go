package call

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// mostMessage bounds one message of a Stream where nobody says.
const mostMessage = 4 << 20

// Stream is a gRPC call with messages both ways, as many as there are. One goroutine may
// send while another receives; it takes a stream of the cluster's pool and a place of its
// circuit breakers until Close, which is to be called once.
type Stream struct {
	x      *exchange
	ticket cluster.Ticket
	begun  time.Time
	limit  int
	answer Response // its head, and trailers at the end
	body   buffer.Buf
	next   codec.Next
	head   bool  // answer has a head
	failed error // what the receiver was told at last
	ended  bool  // nothing more is sent
	unsent error // what the sender was told at last
}

// Open begins a call; the head of the request leaves with the first message. until bounds
// how long a connection may take. method and entry are as for Unary, t.Timeout does not
// count.
func (c *Client) Open(w Waiter, t *GRPC, method string, entry *accesslog.Entry, until time.Time) (*Stream, error) {
	cl := c.find(t.Cluster)
	if cl == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoCluster, t.Cluster)
	}
	q := &Request{Cluster: t.Cluster, Plain: t.Plain}
	t.head(&q.Header, method, entry)
	if !q.Plain {
		c.announce(q)
	}
	ticket, err := cl.Admit(cluster.Default)
	if err != nil {
		return nil, err
	}
	s := &Stream{ticket: ticket, begun: time.Now(), limit: t.MaxMessage}
	if s.limit == 0 {
		s.limit = mostMessage
	}
	if s.x, err = open(w, cl, &cluster.Attempt{Headers: &q.Header}, until); err != nil {
		ticket.Done()
		count(cl, &s.answer, err, s.begun)
		return nil, err
	}
	if !q.Header.Has(header.Scheme) {
		q.Header.AddID(header.Scheme, s.x.scheme())
	}
	if err := s.x.up.WriteHeaders(&q.Header, false); err != nil {
		s.unsent = err
		s.Close()
		return nil, err
	}
	return s, nil
}

// Send sends a message. A host that takes none until then has the call reset: ErrTimeout.
// After another error Receive may tell why the host hears no more.
func (s *Stream) Send(message []byte, until time.Time) error {
	if s.unsent != nil {
		return s.unsent
	}
	var b buffer.Buf
	b.Append(message)
	filter.PrependGRPC(&b, 0)
	late := time.AfterFunc(time.Until(until), func() { s.x.up.Reset(codec.ResetCancel) })
	err := s.x.up.WriteData(&b, false)
	if err == nil {
		err = s.x.up.Flush()
	}
	if !late.Stop() {
		err = ErrTimeout
	}
	if err != nil {
		err = s.explain(err)
	}
	s.unsent = err
	return err
}

// CloseSend tells the host that no more messages come.
func (s *Stream) CloseSend() error {
	if s.unsent != nil || s.ended {
		return s.unsent
	}
	var none buffer.Buf
	err := s.x.up.WriteData(&none, true)
	if err == nil {
		err = s.x.up.Flush()
	}
	s.unsent, s.ended = err, err == nil
	return err
}

// Receive waits for the next message, which is in memory of its own, until then: ErrTimeout
// says that there is none yet, and it may be asked for again. io.EOF is the end of a call that
// has gone well, a *Status another one; Ended tells whether an error is the waiter's end.
func (s *Stream) Receive(until time.Time) ([]byte, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	m, err := s.receive(until)
	if err != nil {
		if err = s.explain(err); !errors.Is(err, ErrTimeout) {
			s.failed = err
		}
	}
	return m, err
}

// ReceiveHead waits for the head of the answer until then. Errors are those of Receive, which
// is to be called next in any case. last tells that the head is all of the answer, so that what
// it says are trailers.
func (s *Stream) ReceiveHead(until time.Time) (head *header.Map, last bool, err error) {
	if s.failed != nil {
		return nil, false, s.failed
	}
	if err := s.receiveHead(until); err != nil {
		if err = s.explain(err); !errors.Is(err, ErrTimeout) {
			s.failed = err
		}
		return nil, false, err
	}
	return &s.answer.Header, s.next == codec.End && s.body.Len() == 0, nil
}

// Trailers are those of an answer of which Receive has told the end; empty if there are none.
func (s *Stream) Trailers() *header.Map { return &s.answer.Trailers }

func (s *Stream) receiveHead(until time.Time) error {
	for !s.head {
		if err := s.x.up.SetReadDeadline(until); err != nil {
			return err
		}
		s.answer.Header.Reset()
		next, err := s.x.up.ReadHeaders(&s.answer.Header)
		if err != nil {
			return err
		}
		s.answer.Header.Keep()
		s.head, s.next = s.answer.Code() >= 200, next
	}
	return nil
}

func (s *Stream) receive(until time.Time) ([]byte, error) {
	if err := s.receiveHead(until); err != nil {
		return nil, err
	}
	for {
		if m, ok, err := s.cut(); ok || err != nil {
			return m, err
		}
		if s.next != codec.Data {
			return nil, s.end(until)
		}
		if err := s.x.up.SetReadDeadline(until); err != nil {
			return nil, err
		}
		next, err := s.x.up.ReadData(&s.body)
		if err != nil {
			return nil, err
		}
		s.next = next
	}
}

// cut takes a message off what has arrived.
func (s *Stream) cut() (m []byte, ok bool, err error) {
	prefix, ok := s.body.Peek(filter.GRPCPrefix)
	if !ok {
		return nil, false, nil
	}
	n := int(binary.BigEndian.Uint32(prefix[1:]))
	switch {
	case prefix[0] != 0:
		return nil, false, ErrMessage
	case n > s.limit:
		return nil, false, ErrTooLarge
	case s.body.Len() < filter.GRPCPrefix+n:
		return nil, false, nil
	}
	s.body.Discard(filter.GRPCPrefix)
	m = make([]byte, n)
	s.body.CopyTo(m)
	s.body.Discard(n)
	return m, true, nil
}

// end says how the call has ended.
func (s *Stream) end(until time.Time) error {
	if s.next == codec.Trailers {
		if err := s.x.up.SetReadDeadline(until); err != nil {
			return err
		}
		if err := s.x.up.ReadTrailers(&s.answer.Trailers); err != nil {
			return err
		}
		s.answer.Trailers.Keep()
		s.next = codec.End
	}
	if err := s.answer.status(); err != nil {
		return err
	}
	if s.body.Len() > 0 {
		return ErrMessage
	}
	return io.EOF
}

// explain says what an error means.
func (s *Stream) explain(err error) error {
	switch {
	case isTimeout(err):
		return ErrTimeout
	case s.x.w.Context().Err() != nil:
		return gone(s.x.w, err)
	}
	return err
}

// Close gives the call up, unless it has ended, and gives back what it holds.
func (s *Stream) Close() {
	err := s.failed
	if err == nil {
		err = s.unsent
	}
	switch {
	case errors.Is(err, io.EOF) && s.ended:
		err = nil
	case err == nil || errors.Is(err, io.EOF):
		err = errGivenUp // also the host's early end leaves a stream that is half open
	}
	var st *Status
	s.x.report(&s.answer, err)
	s.x.close(err)
	if errors.Is(err, errGivenUp) && s.head || errors.As(err, &st) {
		err = nil // the host has answered
	}
	count(s.x.cluster, &s.answer, err, s.begun)
	s.body.Release()
	s.ticket.Done()
}

// errGivenUp is the end of a call that nobody wants any more.
var errGivenUp = errors.New("call: the call was given up")

// head fills the head of a call.
func (t *GRPC) head(m *header.Map, method string, entry *accesslog.Entry) {
	m.AddID(header.Method, "POST")
	m.AddID(header.Path, method)
	m.AddID(header.Authority, t.Authority)
	m.AddID(header.Te, "trailers")
	m.AddID(header.ContentType, "application/grpc")
	for i := range t.Metadata {
		if v := t.Metadata[i].value(m, entry); v != "" {
			m.Add(t.Metadata[i].Name, v)
		}
	}
}

// status is the error that a response says, nil if it says that all went well.
func (a *Response) status() error {
	if code := a.Code(); code != 200 {
		return &Status{filter.GRPCStatus(code), "HTTP status " + strconv.Itoa(code)}
	}
	trailers := &a.Trailers
	if !trailers.Has(header.GrpcStatus) {
		trailers = &a.Header
	}
	status, err := strconv.Atoi(trailers.Value(header.GrpcStatus))
	if err != nil {
		return &Status{2, "the answer has no status"}
	}
	if status == 0 {
		return nil
	}
	text := trailers.Value(header.GrpcMessage)
	if plain, err := url.PathUnescape(text); err == nil {
		text = plain
	}
	return &Status{status, text}
}
