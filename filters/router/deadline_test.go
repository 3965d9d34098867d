package router

import (
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// TestResetAtTheDeadline: a call that its host resets when the client's time is over has
// exceeded its deadline; one that is reset before that has not.
func TestResetAtTheDeadline(t *testing.T) {
	for _, tt := range []struct {
		timeout string
		since   time.Duration
		grpc    bool
		want    *filter.Reply
	}{
		{"500u", 501 * time.Microsecond, true, &replyDeadline},
		{"1S", 10 * time.Millisecond, true, &replyRemoteReset},
		{"", time.Hour, true, &replyRemoteReset},
		{"x", time.Hour, true, &replyRemoteReset},
		{"1m", time.Hour, false, &replyRemoteReset},
	} {
		s := &filter.Stream{}
		s.Meta.Start = time.Now().Add(-tt.since)
		if tt.timeout != "" {
			s.Request.AddID(header.GrpcTimeout, tt.timeout)
		}
		f := &Filter{grpc: tt.grpc}
		if got := f.answer(s, &upstreamFailure{err: codec.ErrReset, sent: true}); got != error(tt.want) {
			t.Errorf("%q after %v: %v, want %v", tt.timeout, tt.since, got, tt.want)
		}
	}
}
