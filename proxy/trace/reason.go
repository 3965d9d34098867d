package trace

import (
	"math/rand/v2"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Reason is why a request is traced.
type Reason uint8

// The reasons. Only NotTraceable and HealthCheck are against it.
const (
	NotTraceable Reason = iota
	HealthCheck
	Sampling
	ServiceForced
	ClientForced
)

// Traced reports whether it is.
func (r Reason) Traced() bool { return r >= Sampling }

// RequestID is what the request ID has to do with it (UuidRequestIdConfig).
type RequestID struct {
	Pack bool // the reason is written into it (pack_trace_reason)
	Use  bool // its first eight digits stand for chance (use_request_id_for_trace_sampling)
}

const (
	clientTraceID = "x-client-trace-id"
	uuidLen       = 36
	reasonAt      = 14 // the version of a UUID, which is 4 where nothing is said
)

// of reads the reason in a request ID.
func (RequestID) of(m *header.Map) Reason {
	id := m.Value(header.XRequestId)
	if len(id) != uuidLen {
		return NotTraceable
	}
	switch id[reasonAt] {
	case '9':
		return Sampling
	case 'a':
		return ServiceForced
	case 'b':
		return ClientForced
	}
	return NotTraceable
}

// Set writes the reason into the request ID.
func (r RequestID) Set(m *header.Map, why Reason) {
	id := m.Value(header.XRequestId)
	if !r.Pack || len(id) != uuidLen {
		return
	}
	mark := "4"
	switch why {
	case Sampling:
		mark = "9"
	case ServiceForced:
		mark = "a"
	case ClientForced:
		mark = "b"
	}
	if id[reasonAt:reasonAt+1] != mark {
		m.SetID(header.XRequestId, m.Concat(id[:reasonAt], mark, id[reasonAt+1:]))
	}
}

// Decide decides whether a request is traced, and writes the reason into its ID. r may be
// nil.
func (t *Tracing) Decide(m *header.Map, id RequestID, r *Route) Reason {
	chance := rand.Uint64()
	if id.Use {
		text := m.Value(header.XRequestId)
		n, err := strconv.ParseUint(text[:min(8, len(text))], 16, 64)
		if err != nil || len(text) < 8 {
			return NotTraceable
		}
		chance = n % 10_000
	} else {
		id.Pack = false
	}
	client, random, overall := t.client, t.random, t.overall
	match := func(v runtime.FractionValue, of func(*Route) runtime.Fraction, n uint64) bool {
		if r != nil {
			v = v.Or(of(r))
		}
		return v.Match(n)
	}
	why := NotTraceable
	if id.Use {
		why = id.of(m)
	}
	if why == NotTraceable {
		_, asked := m.Find(clientTraceID)
		switch {
		case asked && match(client, func(r *Route) runtime.Fraction { return r.Client }, rand.Uint64()):
			why = ClientForced
		case m.Has(header.XEnvoyForceTrace):
			why = ServiceForced
		case match(random, func(r *Route) runtime.Fraction { return r.Random }, chance):
			why = Sampling
		default:
			return NotTraceable
		}
		id.Set(m, why)
	}
	if !match(overall, func(r *Route) runtime.Fraction { return r.Overall }, chance) {
		why = NotTraceable
		id.Set(m, why)
	}
	return why
}
