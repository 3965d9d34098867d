package l7

import (
	"errors"
	"net/http"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// The engine's own answers, with Envoy's codes, bodies and details.
var (
	replyRequestTimeout     = filter.Reply{Code: 408, Body: "request timeout", Details: "request_overall_timeout"}
	replyHeaderTimeout      = filter.Reply{Code: 408, Body: "request header timeout", Details: "request_header_timeout"}
	replyIdleTimeout        = filter.Reply{Code: 408, Body: "stream timeout", Details: "stream_idle_timeout", Flags: meta.StreamIdleTimeout}
	replyIdleUpstream       = filter.Reply{Code: 504, Body: "stream timeout", Details: "stream_idle_timeout", Flags: meta.StreamIdleTimeout}
	replyDuration           = filter.Reply{Code: 504, Body: "downstream duration timeout", Details: "max_duration_timeout", GRPC: 4}
	replyTooLarge           = filter.Reply{Code: 413, Body: "Payload Too Large", Details: "request_payload_too_large"}
	replyDurationIncomplete = filter.Reply{Code: 408, Body: "downstream duration timeout", Details: "max_duration_timeout", GRPC: 4}
	replyBadPath            = filter.Reply{Code: 400, Details: "path_normalization_failed"}
	replyMissingPath        = filter.Reply{Code: 404, Details: "missing_path_rejected"}
	replyAbsolutePath       = filter.Reply{Code: 404, Details: "absolute_path_rejected"}
	replyQuery              = filter.Reply{Code: 400, Details: "query_missing_content_type"}
	replyNoHost             = filter.Reply{Code: 400, Details: "missing_host_header"}
	replyUDPTarget          = filter.Reply{Code: 404, Body: "The path is incorrect for CONNECT-UDP", Details: "path_normalization_failed"}
	replyUpgrade            = filter.Reply{Code: 403, Details: "upgrade_failed"}
)

func statusText(code int) string { return http.StatusText(code) }

// reply sends a local reply through the response hooks, one of which may put another one in
// its place, or restart the stream: then filter.ErrRestart is what it returns. After a
// response has begun it can only reset the stream.
func (st *stream) reply(r *filter.Reply) error {
	st.Meta.Flags |= r.Flags
	if r.Details != "" {
		st.Meta.Details = r.Details
	}
	st.Why.Note(why.Decision{By: st.Decider(), What: "answered", N: r.Code, Because: r.Details, At: st.Elapsed()})
	if st.started {
		return st.fail(&filter.Error{Source: filter.Internal, Text: st.Meta.Details})
	}
	st.direct = st.answering // a filter has refused a response that others have seen
	st.held.on, st.held.over = false, false
	st.held.body.Release()
	st.ResponseTrailers.Reset()
	st.skipRequest()
	if r.Code == 400 && !st.m.spec.KeepInvalid {
		st.conn.version.spoil() // what is wrong with the request may be how it was cut
	}
	m := &st.Response
	m.Reset()
	m.SetInt(header.Status, int64(r.Code))
	st.noteCluster()
	if f, ok := st.Route.(finalizer); ok {
		f.FinalizeReply(&st.Stream)
	}
	for _, f := range r.Header {
		if f.Name == "set-cookie" { // one for each cookie (RFC 6265 section 3)
			m.Add(f.Name, f.Value)
			continue
		}
		m.Set(f.Name, f.Value)
	}
	if r.Modify != nil {
		r.Modify(&st.Stream)
	}
	body := st.describe(r)
	if st.head {
		body = ""
	}
	err := st.SendHeaders(body == "")
	if err == nil && body != "" {
		var b buffer.Buf
		b.AppendString(body)
		err = st.SendData(&b, true)
	}
	var other *filter.Reply
	switch {
	case err == nil:
		return nil
	case err == filter.ErrRestart:
		return err
	case !st.started && !st.direct && errors.As(err, &other):
		return st.reply(other)
	}
	st.broken = true
	st.down.Reset(codec.ResetCancel)
	return nil
}

// finalizer is a route that adds to all answers.
type finalizer interface {
	FinalizeReply(s *filter.Stream)
}

// noteCluster notes where the route leads for a stream that was never sent there.
func (st *stream) noteCluster() {
	if st.Meta.Cluster != "" {
		return
	}
	r, ok := st.Route.(interface {
		ClusterName(s *filter.Stream) string
	})
	if !ok {
		return
	}
	name := r.ClusterName(&st.Stream)
	if stat, ok := st.m.statName(name); ok {
		st.Meta.Cluster, st.Meta.ClusterStatName = name, stat
	}
}

// describe finishes the head of a local reply with what depends on its body, which it
// returns: local_reply_config has its say, and gRPC its form.
func (st *stream) describe(r *filter.Reply) string {
	m := &st.Response
	code, body, contentType := r.Code, r.Body, textPlain
	st.ReplyBody = body
	if r.Verbatim {
		m.SetInt(header.ContentLength, int64(len(body)))
		return body
	}
	own := m.Has(header.ContentType) // the filter's, for its body
	if c := st.m.spec.LocalReply; c != nil {
		before := m.Value(header.ContentType)
		code, body, contentType = c.rewrite(st, code, body)
		own = m.Value(header.ContentType) != before || own && body == r.Body
	}
	if st.grpc {
		st.grpcReply(r.GRPC, code, body)
		return ""
	}
	if body == "" {
		return ""
	}
	m.SetInt(header.ContentLength, int64(len(body)))
	if !own {
		m.SetID(header.ContentType, contentType)
	}
	return body
}

// skipRequest throws away what of the request is at hand, so that a request that has
// come completely does not cost the connection.
func (st *stream) skipRequest() {
	for st.next.get() == codec.Data && !st.broken && st.upgrade == "" && st.down.BufferedData() {
		next, err := st.down.ReadData(&st.piece)
		st.piece.Release()
		if err != nil {
			return // the response says so
		}
		if next == codec.Trailers {
			next = codec.End
			if st.down.ReadTrailers(&st.RequestTrailers) != nil {
				return
			}
		}
		st.next.set(next)
	}
}
