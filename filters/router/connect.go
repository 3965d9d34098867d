package router

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// terminate answers CONNECT itself: what the client sends in the tunnel goes to a host
// as raw TCP (connect_config). So does the body of a POST, if the route says so.
func (f *Filter) terminate(s *filter.Stream, r *route.Route) (err error) {
	host, err := f.cluster.Pick(&f.at)
	if err != nil {
		return &replyNoHealthyHost
	}
	s.Meta.UpstreamHost, s.Meta.UpstreamHostname, s.Meta.Attempts = host.Addr, host.Hostname, 1
	f.beginSpan(s)
	f.log.begin(s, s.Elapsed())
	conn, err := f.cluster.Dial(context.Background(), host, &f.at)
	if err != nil {
		reportUnconnected(host, err)
		f.logUnconnected(s, err)
		return f.answer(s, err)
	}
	reportConnected(host)
	host.Outlier().Code(200, false)
	s.Meta.UpstreamLocal, s.Meta.UpstreamConn, s.Meta.UpstreamTLS = conn.Local, conn.ID, conn.TLS
	up := &rawStream{conn: conn}
	f.up = up
	f.logPoolReady(s)
	defer func() {
		f.pump.stop(s)
		f.log.write(s, accesslog.UpstreamEnd, meta.Unknown, err)
		f.up = nil
		up.Release()
	}()
	if v := f.action.ConnectProxy; v != 0 {
		var head buffer.Buf
		head.Append(transport.AppendProxyHeader(nil, v == 2, s.Accepted().Remote, s.Accepted().Local))
		if err := up.WriteData(&head, false); err != nil {
			return &replyTermination
		}
	}
	if s.Request.Value(header.Method) != "CONNECT" { // what is there of the body goes ahead
		if _, err := s.Engine.RelayRequest(up, nil, true); err != nil {
			return err
		}
	}
	if err := f.eager(s); err != nil {
		return err
	}
	s.Response.Reset()
	s.Response.AddID(header.Status, "200")
	f.log.answered(s, 200)
	if !f.sh.config.SuppressEnvoyHeaders && f.requestSent(s) {
		s.Response.SetInt(header.XEnvoyUpstreamServiceTime, 0)
	}
	s.Meta.Details = "via_upstream"
	if err := r.FinalizeResponse(s); err != nil {
		return err
	}
	if err := s.Engine.SendHeaders(false); err != nil {
		return err
	}
	if f.requestSent(s) {
		return s.Engine.RelayResponse(up, codec.Data, time.Time{})
	}
	return f.tunnel(s)
}

// eager refuses a CONNECT whose client has sent something for the tunnel before it was
// told that there is one, where the configuration wants that: a host that then says no
// would take it for a request. What comes while the host is asked is found out when it
// has answered. Without the refusal, too, nothing is passed on before that.
func (f *Filter) eager(s *filter.Stream) error {
	if !f.sh.config.NoEarlyData || s.Request.Value(header.Method) != "CONNECT" {
		return nil
	}
	if d, ok := s.Engine.Downstream().(codec.Tunneler); ok && d.EarlyData() {
		return &replyEarlyData
	}
	return nil
}

// rawStream is a raw connection to a host in the shape of a stream, so that the engine
// can relay it. It has bodies only: no heads, no trailers.
type rawStream struct {
	conn          *cluster.TCPConn
	read, written int64
	reset         bool
}

var errNoHead = errors.New("router: a raw connection has no heads")

// ReadHeaders implements codec.Stream.
func (r *rawStream) ReadHeaders(*header.Map) (codec.Next, error) { return 0, errNoHead }

// ReadData implements codec.Stream.
func (r *rawStream) ReadData(b *buffer.Buf) (codec.Next, error) {
	n, err := r.conn.ReadBuf(b)
	r.read += int64(n)
	if errors.Is(err, io.EOF) {
		return codec.End, nil
	}
	return codec.Data, err
}

// BufferedData implements codec.Stream.
func (r *rawStream) BufferedData() bool { return r.conn.Pending() > 0 }

// ReadTrailers implements codec.Stream.
func (r *rawStream) ReadTrailers(*header.Map) error { return errNoHead }

// WriteHeaders implements codec.Stream.
func (r *rawStream) WriteHeaders(*header.Map, bool) error { return errNoHead }

// WriteData implements codec.Stream.
func (r *rawStream) WriteData(b *buffer.Buf, end bool) error {
	r.written += int64(b.Len())
	if err := r.conn.WriteBuf(b); err != nil || !end {
		return err
	}
	return r.conn.CloseWrite()
}

// WriteTrailers implements codec.Stream.
func (r *rawStream) WriteTrailers(*header.Map) error { return r.conn.CloseWrite() }

// Flush implements codec.Stream: nothing is ever held back.
func (r *rawStream) Flush() error { return nil }

// Upgraded implements codec.Stream.
func (r *rawStream) Upgraded() bool { return false }

// Raw implements codec.Stream.
func (r *rawStream) Raw() (codec.RawStream, bool) { return nil, false }

// Protocol implements codec.Stream.
func (r *rawStream) Protocol() meta.Protocol { return meta.Unknown }

// SetReadDeadline implements codec.Stream.
func (r *rawStream) SetReadDeadline(t time.Time) error { return r.conn.SetReadDeadline(t) }

// Interrupt implements codec.Stream.
func (r *rawStream) Interrupt() { r.conn.Interrupt() }

// StopWriting implements codec.ClientStream.
func (r *rawStream) StopWriting() { r.conn.Cut() }

// Reset implements codec.Stream.
func (r *rawStream) Reset(codec.Reset) { r.reset = true }

// WireBytes implements codec.Stream.
func (r *rawStream) WireBytes() (read, written codec.Wire) {
	return codec.Wire{Body: r.read}, codec.Wire{Body: r.written}
}

// Release implements codec.ClientStream: the connection ends with its stream.
func (r *rawStream) Release() bool {
	r.conn.CountBytes(r.read, r.written)
	if r.reset {
		_ = r.conn.Abort() // nobody is left to tell
	} else {
		_ = r.conn.Close()
	}
	return false
}

var _ codec.ClientStream = (*rawStream)(nil)
