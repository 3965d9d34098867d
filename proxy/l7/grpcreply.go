package l7

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// grpcReply makes of a local reply what a gRPC client understands: a head that is a
// trailer, too, with the status in it and the body for a message.
func (st *stream) grpcReply(status, code int, body string) {
	m := &st.Response
	m.SetID(header.Status, "200")
	m.SetID(header.ContentType, "application/grpc")
	if status == 0 {
		status = filter.GRPCStatus(code)
	}
	m.SetInt(header.GrpcStatus, int64(status))
	if body != "" && !st.head {
		m.SetID(header.GrpcMessage, m.Format(func(dst []byte) []byte { return filter.AppendGRPCMessage(dst, body) }))
	}
}
