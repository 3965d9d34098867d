package xds

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// Secrets (SDS) differ from other resources: those that two sources call the same are not
// the same, as an agent's "default" and that of a file. What is kept of one is its parsed
// value and a copy for people from which everything secret was taken out. They are never
// written to disk.

// secretKind is what a secret is, by the name of its field in Secret.
type secretKind string

const (
	certificateKind secretKind = "tls_certificate"
	validationKind  secretKind = "validation_context"
	ticketKeysKind  secretKind = "session_ticket_keys"
	genericKind     secretKind = "generic_secret"
)

// cell is a secret.Source that xds sets.
type cell[T any] struct{ current atomic.Pointer[T] }

// Current implements secret.Source.
func (c *cell[T]) Current() *T { return c.current.Load() }

// set replaces the value; nil leaves the one before.
func (c *cell[T]) set(v *T) {
	if v != nil {
		c.current.Store(v)
	}
}

// namedSecret is a secret of one source, for all who refer to it. It belongs to the
// manager's lock; who was given one of its cells goes on with that after the subscription
// has ended.
type namedSecret struct {
	ref      ref
	key      server.SecretKey // what the engine calls it by
	answered bool             // it has come, or the wait for it is over

	certificate cell[secret.Certificate]
	validation  cell[secret.Validation]
	ticketKeys  cell[secret.TicketKeys]
	generic     cell[secret.Generic]
	kind        secretKind   // of the newest value, "" before there is one
	wanted      []secretKind // what it was asked for as

	files   *secretFiles // nil where everything is in the resource itself
	version string
	updated time.Time  // when it came, or was asked for first
	shown   *anypb.Any // without what is secret; nil before there is one
	refused *Refused   // the newest version, nil if it is in effect
}

// secretValue is a parsed secret: one of the four.
type secretValue struct {
	kind        secretKind
	certificate *secret.Certificate
	validation  *secret.Validation
	ticketKeys  *secret.TicketKeys
	generic     *secret.Generic
}

// parseSecret converts a Secret. Errors do not quote it.
func parseSecret(pb *tlsv3.Secret, p *filter.Parser) (v secretValue, err error) {
	switch t := pb.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		v.kind = certificateKind
		v.certificate, err = fromproto.TLSCertificate(t.TlsCertificate)
	case *tlsv3.Secret_ValidationContext:
		v.kind = validationKind
		v.validation, err = fromproto.TLSValidation(t.ValidationContext, p)
	case *tlsv3.Secret_SessionTicketKeys:
		v.kind = ticketKeysKind
		v.ticketKeys, err = fromproto.TicketKeys(t.SessionTicketKeys)
	case *tlsv3.Secret_GenericSecret:
		v.kind = genericKind
		v.generic, err = fromproto.GenericSecret(t.GenericSecret)
	default:
		return v, errors.New("there is no secret in it")
	}
	return v, filter.At(string(v.kind), err)
}

// put makes v the value. The secret that was good before stays if v is of another kind
// than somebody needs.
func (s *namedSecret) put(v secretValue) error {
	for _, k := range s.wanted {
		if k != v.kind {
			return fmt.Errorf("is a %s, and a %s is needed", v.kind, k)
		}
	}
	s.kind = v.kind
	s.certificate.set(v.certificate)
	s.validation.set(v.validation)
	s.ticketKeys.set(v.ticketKeys)
	s.generic.set(v.generic)
	return nil
}

// setSecret takes a version of a secret. The lock is held.
func (m *Manager) setSecret(s *namedSecret, r *ads.Resource) error {
	var pb tlsv3.Secret
	if err := fromproto.Unmarshal(r.Body.GetValue(), &pb); err != nil {
		return err
	}
	p := m.parser()
	files := filesOf(&pb)
	v, err := parseSecret(&pb, p)
	if err != nil {
		return err
	}
	m.warn("secret", r.Name, p.Warnings)
	if err := s.put(v); err != nil {
		return err
	}
	s.files = files
	s.version, s.updated, s.refused = r.Version, time.Now(), nil
	s.shown = shown{}.any(r.Body, false)
	m.secretFilesChanged()
	return nil
}

// applySecrets takes an update of secrets from a source. A secret that is refused leaves
// its last good version in place. What a control plane lists as removed stays, too, as in
// Envoy: who wants a secret to end lets it expire. Who waits for it waits no longer.
// The lock is held.
func (m *Manager) applySecrets(u *ads.Update, source ref) (refused []ads.Refusal) {
	start := time.Now()
	for i := range u.Changed {
		r := &u.Changed[i]
		s := m.secretTable[source.to(r.Name)]
		if s == nil { // its last user has gone while it was on its way
			continue
		}
		err := m.unknown.check(r.Body, func(kind string) { m.log.Warn("Unknown field: "+kind, "name", r.Name) })
		if err == nil {
			err = m.setSecret(s, r)
		}
		w := m.secrets.watches[s.ref]
		if err != nil {
			s.refused = &Refused{err, r.Version, shown{}.any(r.Body, false), time.Now()}
			refused = append(refused, ads.Refusal{Name: r.Name, Err: err})
			w.rejected()
		} else {
			w.accepted(u.Version, false, time.Since(start))
		}
		m.secretAnswered(s)
	}
	for _, name := range u.Same {
		m.secrets.watches[source.to(name)].accepted(u.Version, false, time.Since(start))
	}
	for _, name := range u.Removed {
		m.secrets.watches[source.to(name)].accepted(u.Version, false, time.Since(start))
		if s := m.secretTable[source.to(name)]; s != nil {
			m.secretAnswered(s)
		}
	}
	m.settle()
	return refused
}

// to is the reference to a resource of the same source.
func (r ref) to(name string) ref {
	r.name = name
	return r
}

// secretTimedOut ends the wait for a secret: who needs it goes on and refuses connections.
func (m *Manager) secretTimedOut(source ref, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.secretTable[source.to(name)]
	if s == nil || s.answered {
		return
	}
	m.secrets.watches[s.ref].timedOut()
	m.secretAnswered(s)
	m.settle()
}

// secretAnswered lets those go on who waited. The lock is held.
func (m *Manager) secretAnswered(s *namedSecret) {
	if !s.answered {
		s.answered = true
		m.engine.SecretArrived(s.key)
	}
}

// staticSecret takes a secret of the bootstrap.
func (m *Manager) staticSecret(pb *tlsv3.Secret) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pb.GetName() == "" {
		return filter.At("name", errors.New("must not be empty"))
	}
	if m.staticSecrets[pb.Name] != nil {
		return filter.At("name", fmt.Errorf("there are two secrets %q", pb.Name))
	}
	body, err := anypb.New(pb)
	if err != nil {
		return err
	}
	s := &namedSecret{ref: secretRef(pb.Name, nil), answered: true}
	if err := m.setSecret(s, &ads.Resource{Name: pb.Name, Body: body}); err != nil {
		return err
	}
	m.staticSecrets[pb.Name] = s
	return nil
}
