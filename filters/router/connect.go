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
	"github.com/mecha-mesh/mecha/proxy/codec/capsule"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// terminate answers CONNECT itself: what the client sends in the tunnel goes to a host
// as raw TCP (connect_config). So does the body of a POST, if the route says so; what comes
// with CONNECT-UDP goes there as datagrams.
func (f *Filter) terminate(s *filter.Stream, r *route.Route) (err error) {
	host, err := f.cluster.Pick(&f.at)
	if err != nil {
		return &replyNoHealthyHost
	}
	s.Meta.UpstreamHost, s.Meta.UpstreamHostname, s.Meta.Attempts = host.Addr, host.Hostname, 1
	f.beginSpan(s)
	f.log.begin(s, s.Elapsed())
	up, err := f.openTunnel(s, host)
	if err != nil {
		reportUnconnected(host, err)
		f.logUnconnected(s, err)
		return f.answer(s, err)
	}
	reportConnected(host)
	host.Outlier().Code(200, false)
	f.up = up
	f.logPoolReady(s)
	defer func() {
		f.pump.stop(s)
		f.log.write(s, accesslog.UpstreamEnd, meta.Unknown, err)
		f.up = nil
		up.Release()
	}()
	if err := f.introduce(s); err != nil {
		return err
	}
	if s.Request.Value(header.Method) != "CONNECT" && !filter.AsksUDP(&s.Request) { // what is there of the body goes ahead
		if _, err := s.Engine.RelayRequest(up, nil, true); err != nil {
			return err
		}
	}
	if err := f.eager(s); err != nil {
		return err
	}
	f.log.answered(s, f.grant(s))
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

// openTunnel makes what a tunnel leads to: a raw connection, or a UDP socket.
func (f *Filter) openTunnel(s *filter.Stream, host *cluster.Host) (codec.ClientStream, error) {
	if filter.AsksUDP(&s.Request) {
		up, err := openUDP(f.cluster, host, f.sh.datagrams)
		if err == nil {
			s.Meta.UpstreamLocal = up.sock.Addr()
		}
		return up, err
	}
	conn, err := f.cluster.Dial(context.Background(), host, &f.at)
	if err != nil {
		return nil, err
	}
	s.Meta.UpstreamLocal, s.Meta.UpstreamConn, s.Meta.UpstreamTLS = conn.Local, conn.ID, conn.TLS
	return &rawStream{conn: conn}, nil
}

// introduce tells a host of raw bytes who the client is, if the route says so.
func (f *Filter) introduce(s *filter.Stream) error {
	v := f.action.ConnectProxy
	if v == 0 || filter.AsksUDP(&s.Request) {
		return nil
	}
	var head buffer.Buf
	head.Append(transport.AppendProxyHeader(nil, v == 2, s.Accepted().Remote, s.Accepted().Local))
	if err := f.up.WriteData(&head, false); err != nil {
		return &replyTermination
	}
	return nil
}

// grant makes the head of the response that opens the tunnel, and returns its code.
func (f *Filter) grant(s *filter.Stream) int {
	s.Response.Reset()
	if !filter.AsksUDP(&s.Request) {
		s.Response.AddID(header.Status, "200")
		return 200
	}
	s.Response.AddID(header.Status, "101") // which over HTTP/2 is 200
	s.Response.AddID(header.Connection, "upgrade")
	s.Response.AddID(header.Upgrade, capsule.Protocol)
	s.Response.Add(capsule.Field, capsule.Announced)
	return 101
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
	headless
	conn  *cluster.TCPConn
	reset bool
}

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

// SetReadDeadline implements codec.Stream.
func (r *rawStream) SetReadDeadline(t time.Time) error { return r.conn.SetReadDeadline(t) }

// Interrupt implements codec.Stream.
func (r *rawStream) Interrupt() { r.conn.Interrupt() }

// StopWriting implements codec.ClientStream.
func (r *rawStream) StopWriting() { r.conn.Cut() }

// Reset implements codec.Stream.
func (r *rawStream) Reset(codec.Reset) { r.reset = true }

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
