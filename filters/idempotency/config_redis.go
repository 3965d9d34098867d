package idempotency

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// redisMessage is store.redis.
type redisMessage struct {
	Cluster        string                  `json:"cluster"`
	Address        string                  `json:"address"`
	Username       string                  `json:"username"`
	Password       json.RawMessage         `json:"password"`        // envoy.config.core.v3.DataSource
	PasswordSecret json.RawMessage         `json:"password_secret"` // envoy...tls.v3.SdsSecretConfig
	Database       int                     `json:"database"`
	Prefix         *string                 `json:"key_prefix"`
	Timeout        *fromproto.JSONDuration `json:"timeout"`
	Lease          *fromproto.JSONDuration `json:"lease"`
	Conns          *uint32                 `json:"max_connections"`
}

// shortestLease leaves time for renewals.
const shortestLease = 100 * time.Millisecond

func (m *redisMessage) parse(p *filter.Parser) (*RedisSpec, error) {
	s := &RedisSpec{
		Cluster: m.Cluster, Address: m.Address, Username: m.Username, Database: m.Database,
		Prefix: "mecha:idempotency:", Conns: 16,
	}
	if (m.Cluster == "") == (m.Address == "") {
		return nil, errors.New("one of cluster, address is required")
	}
	if m.Address != "" {
		if _, _, err := net.SplitHostPort(m.Address); err != nil {
			return nil, filter.At("address", fmt.Errorf("%q is not HOST:PORT", m.Address))
		}
	}
	if m.Database < 0 {
		return nil, filter.At("database", fmt.Errorf("%d is less than 0", m.Database))
	}
	if m.Prefix != nil {
		s.Prefix = *m.Prefix
	}
	if m.Conns != nil {
		if *m.Conns == 0 || *m.Conns > 1024 {
			return nil, filter.At("max_connections", fmt.Errorf("%d is not within 1 and 1024", *m.Conns))
		}
		s.Conns = int(*m.Conns)
	}
	var err error
	if s.Timeout, err = positive("timeout", m.Timeout, time.Second); err != nil {
		return nil, err
	}
	if s.Lease, err = positive("lease", m.Lease, 15*time.Second); err != nil {
		return nil, err
	}
	if s.Lease < shortestLease {
		return nil, filter.At("lease", fmt.Errorf("%v is less than %v", s.Lease, shortestLease))
	}
	s.Password, err = m.password(p)
	return s, err
}

// maxPassword is the most bytes of a password.
const maxPassword = 4096

// password returns what gives the password; nil: there is none. A file is read with each
// connection, so that a new password needs no new configuration.
func (m *redisMessage) password(p *filter.Parser) (func() (string, error), error) {
	switch {
	case m.Password != nil && m.PasswordSecret != nil:
		return nil, errors.New("one of password, password_secret is to be set, not both")
	case m.Password != nil:
		var pb corev3.DataSource
		if err := protojson.Unmarshal(m.Password, &pb); err != nil {
			return nil, filter.At("password", errors.New("is not a DataSource")) // the error would quote it
		}
		if pb.GetFilename() == "" && pb.GetEnvironmentVariable() == "" {
			return nil, filter.At("password", errors.New("is to be a filename or an environment_variable: what is in a configuration can be seen in dumps"))
		}
		read := func() (string, error) {
			text, err := fromproto.Bytes(&pb, maxPassword)
			return strings.TrimRight(text, "\r\n"), err
		}
		_, err := read()
		return read, filter.At("password", err)
	case m.PasswordSecret != nil:
		var pb tlsv3.SdsSecretConfig
		if err := protojson.Unmarshal(m.PasswordSecret, &pb); err != nil {
			return nil, filter.At("password_secret", err)
		}
		src, err := fromproto.NamedGeneric(&pb, p)
		if err != nil {
			return nil, filter.At("password_secret", err)
		}
		return func() (string, error) {
			v := src.Current()
			if v == nil {
				return "", fmt.Errorf("the secret %q has not come yet", pb.Name)
			}
			return string(v.Secret()), nil
		}, nil
	}
	return nil, nil
}
