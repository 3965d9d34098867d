package h1

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// relay is the least engine that turns a ServerConn and ClientConns into a proxy:
// what the tests need to see both sides of the codec at work, with the local
// answers that Envoy gives above its codec.
type relay struct {
	server   *ServerConn
	dial     func() *ClientConn
	idle     *ClientConn
	upgrades bool // websocket and CONNECT are allowed
	pass100  bool // proxy_100_continue
	log      []string
}

const resetText = "upstream connect error or disconnect/reset before headers. reset reason: "

func (p *relay) run() {
	defer func() {
		p.server.Close()
		if p.idle != nil {
			p.idle.Close()
		}
	}()
	for {
		st, err := p.server.Accept()
		if err != nil {
			return
		}
		p.serve(st)
		if !st.Release() {
			return
		}
	}
}

// serve carries one exchange.
func (p *relay) serve(st codec.ServerStream) {
	var q header.Map
	next, err := st.ReadHeaders(&q)
	if err == nil {
		err = p.admit(st, &q, next)
	}
	if err != nil {
		p.fail(st, err)
		return
	}
	up := p.idle
	if up == nil || !up.Alive() {
		if up != nil {
			up.Close()
		}
		up = p.dial()
	}
	p.idle = nil
	cs, err := up.Open(context.Background())
	if err != nil {
		panic(err)
	}
	err = p.exchange(st, cs, &q, next)
	if cs.Release() && err == nil {
		p.idle = up
	} else {
		up.Close()
	}
	if err != nil {
		p.fail(st, err)
	}
}

// localReply is an answer of the relay itself.
type localReply struct {
	code          int
	details, text string
	keep          bool
}

func (e *localReply) Error() string { return e.details }

// admit is what Envoy checks above its codec.
func (p *relay) admit(st codec.ServerStream, q *header.Map, next codec.Next) error {
	method, path := q.Value(header.Method), q.Value(header.Path)
	switch {
	case method == "CONNECT" && !p.upgrades:
		return &localReply{404, "route_not_found", "", false}
	case method == "CONNECT":
	case path[0] != '/':
		return &localReply{404, "absolute_path_rejected", "", next == codec.End}
	case method == "QUERY" && !q.Has(header.ContentType):
		return &localReply{400, "query_missing_content_type", "", false}
	case q.Has(header.Upgrade) && !(p.upgrades && strings.EqualFold(q.Value(header.Upgrade), "websocket")):
		return &localReply{403, "upgrade_failed", "", false}
	}
	if strings.EqualFold(q.Value(header.Expect), "100-continue") && !p.pass100 {
		q.DelID(header.Expect)
		var m header.Map
		m.AddID(header.Status, "100")
		return st.WriteHeaders(&m, true)
	}
	return nil
}

// fail answers for the relay, or gives the exchange up.
func (p *relay) fail(st codec.ServerStream, err error) {
	var pe *codec.ProtocolError
	var lr *localReply
	switch {
	case errors.As(err, &lr):
	case errors.As(err, &pe) && pe.Details == detailsNoHost, errors.As(err, &pe) && pe.Details == detailsFragment:
		lr = &localReply{pe.Code, pe.Details, "", false}
	case errors.As(err, &pe):
		lr = &localReply{pe.Code, pe.Details, reason(pe.Code), false}
	case errors.Is(err, io.ErrUnexpectedEOF):
		p.log = append(p.log, "0 downstream_remote_disconnect")
		st.Reset(codec.ResetCancel)
		return
	default:
		st.Reset(codec.ResetInternal)
		return
	}
	var m header.Map
	m.AddID(header.Status, strconv.Itoa(lr.code))
	if lr.text != "" {
		m.SetInt(header.ContentLength, int64(len(lr.text)))
		m.AddID(header.ContentType, "text/plain")
	}
	if !lr.keep {
		m.AddID(header.Connection, "close")
	}
	if e := st.WriteHeaders(&m, lr.text == ""); e != nil {
		st.Reset(codec.ResetInternal)
		return
	}
	p.log = append(p.log, strconv.Itoa(lr.code)+" "+lr.details)
	if lr.text != "" {
		var b buffer.Buf
		b.AppendString(lr.text)
		_ = st.WriteData(&b, true)
	}
}

// pump copies a body and its trailers. It sets read once it has seen the end.
func pump(dst, src codec.Stream, read *atomic.Bool) error {
	var b buffer.Buf
	defer b.Release()
	for {
		next, err := src.ReadData(&b)
		if err != nil {
			return err
		}
		if next != codec.Data {
			read.Store(true)
		}
		switch next {
		case codec.Trailers:
			if err := dst.WriteData(&b, false); err != nil {
				return err
			}
			var m header.Map
			if err := src.ReadTrailers(&m); err != nil {
				return err
			}
			return dst.WriteTrailers(&m)
		case codec.End:
			return dst.WriteData(&b, true)
		}
		if err := dst.WriteData(&b, false); err != nil {
			return err
		}
		if !src.BufferedData() {
			if err := dst.Flush(); err != nil {
				return err
			}
		}
	}
}

// exchange sends q and its body on and the response back.
func (p *relay) exchange(st codec.ServerStream, cs codec.ClientStream, q *header.Map, next codec.Next) error {
	if err := cs.WriteHeaders(q, next == codec.End); err != nil {
		return err
	}
	sent := make(chan error, 1)
	var read atomic.Bool // the whole request
	if next == codec.End {
		read.Store(true)
		sent <- nil
	} else {
		if !st.BufferedData() {
			_ = cs.Flush()
		}
		go func() {
			err := pump(cs, st, &read)
			if err != nil {
				cs.Interrupt() // whoever waits for the response learns of it
			}
			sent <- err
		}()
	}
	err := p.respond(st, cs, &read)
	if !read.Load() {
		st.Interrupt()
		cs.Reset(codec.ResetCancel)
	}
	if e := <-sent; e != nil {
		if !errors.Is(e, netio.ErrInterrupted) && errors.Is(err, netio.ErrInterrupted) {
			return e
		}
	}
	return err
}

// respond brings the response back. A response that comes before the request was
// read ends the connection.
func (p *relay) respond(st codec.ServerStream, cs codec.ClientStream, read *atomic.Bool) error {
	var m header.Map
	status := ""
	next := codec.Data
	for status == "" || status[0] == '1' && status != "101" {
		m.Reset()
		var err error
		if next, err = cs.ReadHeaders(&m); err != nil {
			return upstreamError(err)
		}
		if status = m.Value(header.Status); status == "100" && p.pass100 {
			if err := st.WriteHeaders(&m, false); err != nil {
				return err
			}
		}
	}
	if !read.Load() {
		m.AddID(header.Connection, "close")
	}
	p.log = append(p.log, status+" via_upstream")
	if err := st.WriteHeaders(&m, next == codec.End); err != nil {
		return err
	}
	if cs.Upgraded() {
		return p.tunnel(st, cs)
	}
	if next == codec.End {
		return nil
	}
	if !cs.BufferedData() {
		_ = st.Flush()
	}
	if err := pump(st, cs, new(atomic.Bool)); err != nil {
		_ = st.Flush()
		st.Reset(codec.ResetInternal)
		return err
	}
	return nil
}

func upstreamError(err error) error {
	var pe *codec.ProtocolError
	switch {
	case errors.As(err, &pe):
		return &localReply{502, "upstream_reset_before_response_started{protocol_error}", resetText + "protocol error", true}
	case errors.Is(err, codec.ErrClosedBeforeResponse), errors.Is(err, io.ErrUnexpectedEOF):
		return &localReply{503, "upstream_reset_before_response_started{connection_termination}", resetText + "connection termination", true}
	}
	return err
}

func (p *relay) tunnel(st codec.ServerStream, cs codec.ClientStream) error {
	var both sync.WaitGroup
	both.Go(func() { _ = pump(cs, st, new(atomic.Bool)) })
	_ = pump(st, cs, new(atomic.Bool))
	both.Wait()
	return nil
}
