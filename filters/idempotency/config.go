package idempotency

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// message is mecha.filters.http.idempotency.v1.Idempotency, a type of our own: its JSON form is
// its definition, and a TypedStruct how it travels.
type message struct {
	Header           string                  `json:"header"`
	Methods          []string                `json:"methods"`
	Stamp            bool                    `json:"stamp"`
	Store            *storeMessage           `json:"store"`
	Required         bool                    `json:"required"`
	Identity         []string                `json:"identity_headers"`
	TTL              *fromproto.JSONDuration `json:"ttl"`
	Wait             *fromproto.JSONDuration `json:"wait_timeout"`
	MaxRequestBytes  *uint32                 `json:"max_request_bytes"`
	MaxResponseBytes *uint32                 `json:"max_response_bytes"`
	NotKept          []int                   `json:"statuses_not_kept"`
	FailureAllow     bool                    `json:"failure_mode_allow"`
}

type storeMessage struct {
	Memory *struct {
		MaxBytes *uint64 `json:"max_bytes"`
	} `json:"memory"`
	Disk *struct {
		Path     string  `json:"path"`
		MaxBytes *uint64 `json:"max_bytes"`
	} `json:"disk"`
	Redis *redisMessage `json:"redis"`
}

// routeMessage is mecha.filters.http.idempotency.v1.IdempotencyPerRoute.
type routeMessage struct {
	Disabled bool `json:"disabled"`
	Required bool `json:"required"`
}

// parse decodes mecha.filters.http.idempotency.v1.Idempotency.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb message
	if err := fromproto.Own(raw, &pb); err != nil {
		return nil, err
	}
	c := &Config{
		Header: strings.ToLower(pb.Header), Methods: pb.Methods, Stamp: pb.Stamp, Required: pb.Required, FailureAllow: pb.FailureAllow,
		MaxRequest: 1 << 20, MaxResponse: 1 << 20, NotKept: []int{408, 425, 429, 503},
	}
	if c.Header == "" {
		c.Header = "idempotency-key"
	}
	if !httpguts.ValidHeaderFieldName(c.Header) {
		return nil, filter.At("header", fmt.Errorf("%q is not the name of a header", pb.Header))
	}
	if len(c.Methods) == 0 {
		c.Methods = []string{"POST", "PATCH"}
	}
	for _, name := range pb.Identity {
		c.Identity = append(c.Identity, strings.ToLower(name))
	}
	if !slices.Contains(c.Identity, "authorization") {
		c.Identity = append(c.Identity, "authorization")
	}
	if pb.MaxRequestBytes != nil {
		c.MaxRequest = int(*pb.MaxRequestBytes)
	}
	if pb.MaxResponseBytes != nil {
		c.MaxResponse = int(*pb.MaxResponseBytes)
	}
	if pb.NotKept != nil {
		c.NotKept = pb.NotKept
	}
	var err error
	if c.TTL, err = positive("ttl", pb.TTL, 24*time.Hour); err != nil {
		return nil, err
	}
	if c.Wait, err = positive("wait_timeout", pb.Wait, 30*time.Second); err != nil {
		return nil, err
	}
	if c.Store, err = pb.Store.parse(p); err != nil {
		return nil, filter.At("store", err)
	}
	if !c.Stamp && c.Store == (StoreSpec{}) {
		return nil, errors.New("neither stamp nor store is set: the filter would do nothing")
	}
	return c, nil
}

func positive(name string, d *fromproto.JSONDuration, otherwise time.Duration) (time.Duration, error) {
	switch {
	case d == nil:
		return otherwise, nil
	case d.Duration <= 0:
		return 0, filter.At(name, fmt.Errorf("%v is not more than 0", d.Duration))
	}
	return d.Duration, nil
}

func (m *storeMessage) parse(p *filter.Parser) (s StoreSpec, err error) {
	if m == nil {
		return s, nil
	}
	n := 0
	for _, set := range []bool{m.Memory != nil, m.Disk != nil, m.Redis != nil} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return s, errors.New("one of memory, disk, redis is required")
	case m.Redis != nil:
		s.Redis, err = m.Redis.parse(p)
		return s, filter.At("redis", err)
	case m.Memory != nil:
		return StoreSpec{MaxBytes: size(m.Memory.MaxBytes, 64<<20)}, nil
	case m.Disk.Path == "":
		return s, filter.At("disk", filter.At("path", errors.New("is required: the file that keeps the responses")))
	}
	return StoreSpec{Path: m.Disk.Path, MaxBytes: size(m.Disk.MaxBytes, 1<<30)}, nil
}

func size(n *uint64, otherwise int64) int64 {
	if n == nil || *n > 1<<62 {
		return otherwise
	}
	return max(int64(*n), 1<<16)
}

func parseRoute(raw []byte, _ *filter.Parser) (*Config, error) {
	var pb routeMessage
	if err := fromproto.Own(raw, &pb); err != nil {
		return nil, err
	}
	return &Config{Disabled: pb.Disabled, Required: pb.Required}, nil
}
