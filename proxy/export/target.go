package export

import (
	"context"
	"fmt"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Target is who collects: a service of gRPC or of HTTP, one of them.
type Target struct {
	GRPC *call.GRPC
	HTTP *HTTP
}

// HTTP is a service that messages are posted to (envoy.config.core.v3.HttpService).
type HTTP struct {
	call.HTTP
	Headers []call.Metadata // request_headers_to_add, without those that a stream fills in
}

// Cluster is the cluster that the target is in.
func (t *Target) Cluster() string {
	if t.GRPC != nil {
		return t.GRPC.Cluster
	}
	return t.HTTP.Cluster
}

// longest is how long one message may take where the configuration does not say.
const longest = 10 * time.Second

// maxAnswer bounds what a collector answers: nobody reads it.
const maxAnswer = 64 << 10

// Send sends one message: to the method of a gRPC service, or as the body of a POST. It
// returns when the collector has answered.
func (t *Target) Send(ctx context.Context, c *call.Client, method, contentType string, message []byte) error {
	if t.GRPC != nil {
		g := *t.GRPC
		if g.Timeout <= 0 {
			g.Timeout = longest
		}
		_, err := c.Unary(call.Background(ctx), &g, method, &accesslog.Entry{}, message)
		return err
	}
	q := &call.Request{Cluster: t.HTTP.Cluster, Timeout: t.HTTP.Timeout, Limit: maxAnswer}
	if q.Timeout <= 0 {
		q.Timeout = longest
	}
	m := &q.Header
	m.AddID(header.Method, "POST")
	m.AddID(header.Path, t.HTTP.Path)
	m.AddID(header.Authority, t.HTTP.Authority)
	m.AddID(header.ContentType, contentType)
	m.SetInt(header.ContentLength, int64(len(message)))
	for i := range t.HTTP.Headers {
		m.Add(t.HTTP.Headers[i].Name, t.HTTP.Headers[i].Value)
	}
	q.Body.Append(message)
	var a call.Response
	if err := c.Do(call.Background(ctx), q, &a); err != nil {
		return err
	}
	if code := a.Code(); code < 200 || code >= 300 {
		return &Refused{code}
	}
	return nil
}

// Refused is a collector's answer that is no success.
type Refused struct{ Code int }

func (r *Refused) Error() string { return fmt.Sprintf("export: the collector has answered %d", r.Code) }
