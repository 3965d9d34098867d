package admin

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// healthService is grpc.health.v1.Health
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md) about this process,
// over HTTP/2 without TLS. The service "" and "readiness" is what /ready says, "liveness"
// is that somebody answers.
type healthService struct {
	source   Source
	watching atomic.Int64
}

// The statuses of a HealthCheckResponse.
const (
	serving        = 1
	notServing     = 2
	serviceUnknown = 3
)

// The gRPC statuses that the service answers.
const (
	grpcOK                = 0
	grpcInvalidArgument   = 3
	grpcNotFound          = 5
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
)

const (
	healthRequestLimit = 4 << 10     // bytes of a request, of which there is only a name
	healthWatchers     = 100         // calls of Watch at once
	healthStep         = time.Second // how often Watch looks
)

func (s *Server) healthEndpoints() []Endpoint {
	h := &healthService{source: s.cfg.Source}
	return []Endpoint{
		{Path: "/grpc.health.v1.Health/Check", Post: true, Help: "gRPC health check of this server (HTTP/2)", Serve: h.serve(h.check)},
		{Path: "/grpc.health.v1.Health/Watch", Post: true, Help: "the same, for as long as the client listens", Serve: h.serve(h.watch)},
	}
}

// status is the health of a service.
func (h *healthService) status(service string) int {
	switch service {
	case "liveness":
		return serving
	case "", "readiness":
		if h.source.State() == Live {
			return serving
		}
		return notServing
	}
	return serviceUnknown
}

// serve reads the request of a call and answers it with what method returns.
func (h *healthService) serve(method func(w http.ResponseWriter, r *http.Request, service string) (code int, text string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			fail(w, http.StatusUnsupportedMediaType, "gRPC over HTTP/2 only; /ready is for everybody else")
			return
		}
		head := w.Header()
		clear(head)
		head.Set("Content-Type", "application/grpc")
		service, code, text := readHealthRequest(r.Body)
		if code == grpcOK {
			code, text = method(w, r, service)
		}
		// A trailer where something was written, otherwise a head that is all there is.
		head.Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(code))
		if text != "" {
			head.Set(http.TrailerPrefix+"Grpc-Message", text)
		}
	}
}

func (h *healthService) check(w http.ResponseWriter, _ *http.Request, service string) (int, string) {
	status := h.status(service)
	if status == serviceUnknown {
		return grpcNotFound, "unknown service"
	}
	_, _ = w.Write(healthResponse(status)) // the one who asked has gone
	return grpcOK, ""
}

func (h *healthService) watch(w http.ResponseWriter, r *http.Request, service string) (int, string) {
	if h.watching.Add(1) > healthWatchers {
		h.watching.Add(-1)
		return grpcResourceExhausted, "too many watch already"
	}
	defer h.watching.Add(-1)
	tick := time.NewTicker(healthStep)
	defer tick.Stop()
	for told := 0; ; {
		if status := h.status(service); status != told {
			told = status
			if _, err := w.Write(healthResponse(status)); err != nil {
				return grpcOK, ""
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return grpcOK, ""
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return grpcOK, ""
		}
	}
}

// healthResponse is a HealthCheckResponse with its prefix.
func healthResponse(status int) []byte {
	return []byte{0, 0, 0, 0, 2, 1 << 3, byte(status)} // field 1, a varint
}

// readHealthRequest reads the only message of a call, a HealthCheckRequest. A code that
// is not 0 says what is wrong with it.
func readHealthRequest(body io.Reader) (service string, code int, text string) {
	raw, err := io.ReadAll(io.LimitReader(body, healthRequestLimit+1))
	switch {
	case err != nil || len(raw) < 5:
		return "", grpcInvalidArgument, "the request is incomplete"
	case raw[0] != 0:
		return "", grpcUnimplemented, "the request is compressed"
	case len(raw) > healthRequestLimit:
		return "", grpcResourceExhausted, "the request is too large"
	case uint64(binary.BigEndian.Uint32(raw[1:])) != uint64(len(raw)-5):
		return "", grpcInvalidArgument, "the request is not one message"
	}
	service, err = healthServiceName(raw[5:])
	if err != nil {
		return "", grpcInvalidArgument, err.Error()
	}
	return service, grpcOK, ""
}

var errHealthRequest = errors.New("the request is no HealthCheckRequest")

// healthServiceName finds the field service, the first one, in a HealthCheckRequest;
// others are skipped (https://protobuf.dev/programming-guides/encoding/).
func healthServiceName(raw []byte) (service string, err error) {
	for len(raw) > 0 {
		tag, n := binary.Uvarint(raw)
		if n <= 0 {
			return "", errHealthRequest
		}
		raw = raw[n:]
		size, skip := uint64(0), 0
		switch tag & 7 {
		case 0:
			if _, skip = binary.Uvarint(raw); skip <= 0 {
				return "", errHealthRequest
			}
		case 1:
			size = 8
		case 2:
			if size, skip = binary.Uvarint(raw); skip <= 0 {
				return "", errHealthRequest
			}
		case 5:
			size = 4
		default:
			return "", errHealthRequest
		}
		raw = raw[skip:]
		if size > uint64(len(raw)) {
			return "", errHealthRequest
		}
		if tag == 1<<3|2 {
			service = string(raw[:size])
		}
		raw = raw[size:]
	}
	return service, nil
}
