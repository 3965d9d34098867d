package attributes

import (
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// request returns an attribute of the request.
func (s Source) request(part string) any {
	st := s.Stream
	if st == nil {
		return nil
	}
	m := &st.Request
	switch part {
	case "headers":
		return head{m}
	case "path":
		return field(m, header.Path)
	case "url_path":
		if p, ok := field(m, header.Path).(string); ok {
			path, _, _ := strings.Cut(p, "?")
			return path
		}
	case "query":
		if p, ok := field(m, header.Path).(string); ok {
			p, _, _ = strings.Cut(p, "#")
			_, query, _ := strings.Cut(p, "?")
			return query
		}
	case "host":
		return field(m, header.Authority)
	case "scheme":
		return field(m, header.Scheme)
	case "method":
		return field(m, header.Method)
	case "referer":
		return named(m, "referer")
	case "useragent":
		return field(m, header.UserAgent)
	case "id":
		return field(m, header.XRequestId)
	case "time":
		return st.Meta.Start
	case "duration":
		return after(st.Meta.End)
	case "protocol":
		if st.Meta.Protocol == meta.Unknown {
			return nil
		}
		return st.Meta.Protocol.String()
	case "size":
		return size(m, st.Meta.BytesReceived)
	case "total_size":
		return st.Meta.BytesReceived + int64(m.Bytes())
	}
	return nil
}

// response returns an attribute of the response.
func (s Source) response(part string) any {
	st := s.Stream
	if st == nil {
		return nil
	}
	switch part {
	case "code":
		if st.Meta.Code != 0 {
			return int64(st.Meta.Code)
		}
		if code := st.Response.StatusCode(); code != 0 {
			return int64(code)
		}
	case "code_details":
		return text(st.Meta.Details)
	case "flags":
		return int64(st.Meta.Flags)
	case "headers":
		return head{&st.Response}
	case "trailers":
		return head{&st.ResponseTrailers}
	case "size":
		return st.Meta.BytesSent
	case "total_size":
		return st.Meta.BytesSent + int64(st.Response.Bytes()) + int64(st.ResponseTrailers.Bytes())
	case "grpc_status":
		return grpcStatus(st)
	case "backend_latency":
		if st.Meta.ResponseEnd > 0 && st.Meta.UpstreamStart > 0 {
			return st.Meta.ResponseEnd - st.Meta.UpstreamStart
		}
	}
	return nil
}

func field(m *header.Map, id header.ID) any {
	if !m.Has(id) {
		return nil
	}
	return m.Value(id)
}

func named(m *header.Map, name string) any {
	if v, ok := m.Find(name); ok {
		return v
	}
	return nil
}

// size is the length of a body, as its head says if it does.
func size(m *header.Map, seen int64) any {
	if n, err := strconv.ParseInt(m.Value(header.ContentLength), 10, 64); err == nil {
		return n
	}
	return seen
}

func grpcStatus(st *filter.Stream) any {
	for _, m := range []*header.Map{&st.ResponseTrailers, &st.Response} {
		if n, err := strconv.ParseInt(m.Value(header.GrpcStatus), 10, 32); err == nil {
			return n
		}
	}
	return nil
}
