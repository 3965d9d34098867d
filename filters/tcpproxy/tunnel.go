package tcpproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec/h1"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// Tunnel asks an HTTP proxy for the connection (tunneling_config; CONNECT of RFC 9110,
// section 9.3.6).
type Tunnel struct {
	Hostname *accesslog.Format // where the tunnel leads: host and port
	Headers  *mutate.Headers   // headers_to_add; nil adds none
	// KeepResponse leaves the fields of the response in filter state
	// (propagate_response_headers).
	KeepResponse bool
	// KeepTrailers does so with its trailers, of tunnels that are streams.
	KeepTrailers bool
	Post         string // the path of a POST in place of CONNECT
}

// ResponseKey is the filter state with the fields of the answer to CONNECT, a
// TunnelResponse.
const ResponseKey = "envoy.tcp_proxy.propagate_response_headers"

// TrailersKey is the filter state with the trailers of a tunnel (propagate_response_trailers).
const TrailersKey = "envoy.tcp_proxy.propagate_response_trailers"

// TunnelResponse is the fields of an answer, by lower case name.
type TunnelResponse map[string]string

// Field implements filter.Fields.
func (r TunnelResponse) Field(name string) (string, bool) {
	v, ok := r[strings.ToLower(name)]
	return v, ok
}

// maxResponse bounds the head of the answer, as 60 KiB bound any other.
const maxResponse = 60 << 10

// errSilent is a tunnel that was not answered in time.
var errSilent = errors.New("tunnel: no answer for as long as a connection may be idle")

// open asks for the tunnel on a new connection and waits for the answer, for patience unless
// that is 0. What follows the answer stays in front of the connection.
func (t *Tunnel) open(ctx context.Context, c *filter.Conn, up *cluster.TCPConn, patience time.Duration) (err error) {
	stop := context.AfterFunc(ctx, up.Cut)
	defer stop()
	if patience > 0 {
		late := time.AfterFunc(patience, up.Cut)
		defer func() {
			if !late.Stop() {
				err = errSilent
			}
		}()
	}
	var b buffer.Buf
	defer b.Release()
	b.Append(t.request(c))
	if err := up.WriteBuf(&b); err != nil {
		return err
	}
	for {
		_, err := up.ReadBuf(&b)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("tunnel: %w", err)
		}
		all := b.Bytes()
		end := bytes.Index(all, []byte("\r\n\r\n"))
		switch {
		case end < 0 && len(all) > maxResponse:
			return errors.New("tunnel: the head of the response is too large")
		case end < 0:
			continue
		}
		if err := t.answered(c, all[:end]); err != nil {
			return err
		}
		b.Discard(end + 4)
		up.Unread(&b)
		return nil
	}
}

func (t *Tunnel) request(c *filter.Conn) []byte {
	var m header.Map
	host := string(t.Hostname.Append(nil, c.LogEntry()))
	m.Add("host", host)
	if t.Headers != nil {
		t.Headers.Apply(&m, c)
	}
	head := append([]byte(nil), "CONNECT "+host+" HTTP/1.1\r\n"...)
	for name, value := range m.All() {
		if strings.HasPrefix(name, ":") {
			continue
		}
		head = append(append(append(append(head, name...), ": "...), value...), "\r\n"...)
	}
	return append(head, "\r\n"...)
}

// answered reads the head of the answer: any 2xx opens the tunnel.
func (t *Tunnel) answered(c *filter.Conn, head []byte) error {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	status, err := h1.ParseStatusLine(line)
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	if status.Code/100 != 2 {
		return fmt.Errorf("tunnel: the answer is %d", status.Code)
	}
	if !t.KeepResponse {
		return nil
	}
	r := TunnelResponse{}
	for f := range bytes.SplitSeq(fields, []byte("\r\n")) {
		if name, value, ok := strings.Cut(string(f), ":"); ok {
			r[strings.ToLower(name)] = strings.TrimSpace(value)
		}
	}
	c.State.Set(ResponseKey, r)
	return nil
}
