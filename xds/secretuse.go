package xds

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/secret"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// finder implements filter.Secrets by a function that finds secrets.
type finder func(kind secretKind, name string, from *filter.ConfigSource) (*namedSecret, error)

// Certificate implements filter.Secrets.
func (f finder) Certificate(name string, from *filter.ConfigSource) (secret.Source[secret.Certificate], error) {
	s, err := f(certificateKind, name, from)
	if err != nil {
		return nil, err
	}
	return &s.certificate, nil
}

// Validation implements filter.Secrets.
func (f finder) Validation(name string, from *filter.ConfigSource) (secret.Source[secret.Validation], error) {
	s, err := f(validationKind, name, from)
	if err != nil {
		return nil, err
	}
	return &s.validation, nil
}

// TicketKeys implements filter.Secrets.
func (f finder) TicketKeys(name string, from *filter.ConfigSource) (secret.Source[secret.TicketKeys], error) {
	s, err := f(ticketKeysKind, name, from)
	if err != nil {
		return nil, err
	}
	return &s.ticketKeys, nil
}

// Generic implements filter.Secrets.
func (f finder) Generic(name string, from *filter.ConfigSource) (secret.Source[secret.Generic], error) {
	s, err := f(genericKind, name, from)
	if err != nil {
		return nil, err
	}
	return &s.generic, nil
}

// secretRef is what a resource refers to; nil is a secret of the bootstrap.
func secretRef(name string, from *filter.ConfigSource) ref {
	if from == nil {
		return ref{name: name, path: staticSecrets}
	}
	return refTo(name, *from)
}

// staticSecrets stands for the bootstrap where others have the path of a file.
const staticSecrets = "\x00bootstrap"

// asked remembers what one resource refers to while it is parsed.
type asked struct {
	m      *Manager
	user   string
	active []*namedSecret // what the version in use refers to
	list   []askedFor
}

type askedFor struct {
	s       *namedSecret
	timeout time.Duration
}

// parser is a parser for a resource that may refer to secrets. The lock is held.
func (a *asked) parser() *filter.Parser {
	p := a.m.parser()
	p.Secrets = finder(a.ask)
	return p
}

func (a *asked) ask(kind secretKind, name string, from *filter.ConfigSource) (*namedSecret, error) {
	if from == nil {
		s := a.m.staticSecrets[name]
		switch {
		case s == nil:
			return nil, fmt.Errorf("there is no static secret %q", name)
		case s.kind != kind:
			return nil, fmt.Errorf("the static secret %q is a %s, not a %s", name, s.kind, kind)
		}
		a.add(s, kind, 0)
		return s, nil
	}
	if from.Path == "" && from.API == "" && a.m.ads == nil {
		return nil, filter.At("sds_config.ads", errors.New("there is no ads_config"))
	}
	if err := a.m.streams.check(ads.SecretType, from.API); err != nil {
		return nil, filter.At("sds_config", err)
	}
	r := refTo(name, *from)
	s := a.m.secretTable[r]
	if s == nil {
		a.m.secretNumber++
		s = &namedSecret{ref: r, key: server.SecretKey{Number: a.m.secretNumber, Name: name}, updated: time.Now()}
		a.m.secretTable[r] = s
	}
	a.add(s, kind, from.Timeout)
	return s, nil
}

func (a *asked) add(s *namedSecret, kind secretKind, timeout time.Duration) {
	if !slices.Contains(s.wanted, kind) {
		s.wanted = append(s.wanted, kind)
	}
	if !slices.ContainsFunc(a.list, func(o askedFor) bool { return o.s == s }) {
		a.list = append(a.list, askedFor{s, timeout})
	}
}

// missing are the secrets that have to be waited for.
func (a *asked) missing() (out []server.SecretKey) {
	for _, x := range a.list {
		if !x.s.answered {
			out = append(out, x.s.key)
		}
	}
	return out
}

// found are the secrets that a resource refers to.
func (a *asked) found() (out []*namedSecret) {
	for _, x := range a.list {
		out = append(out, x.s)
	}
	return out
}

// askedBy begins the parsing of a resource that may refer to secrets. The manager's lock
// is held, here and below.
func (m *Manager) askedBy(user string) *asked {
	active := m.secretsOf[user]
	if m.userWarming(user) {
		active = m.before.secrets[user]
	}
	return &asked{m: m, user: user, active: active}
}

// keep makes what was asked for what the resource refers to, now that the engine has it,
// and subscribes to what is new.
func (a *asked) keep() {
	m := a.m
	held := union(m.secretsOf[a.user], m.before.secrets[a.user])
	for _, x := range a.list {
		if !slices.Contains(held, x.s) && x.s.ref.path != staticSecrets {
			m.use(m.secrets, x.s.ref, a.user, x.timeout, "")
		}
	}
	if !m.userWarming(a.user) {
		a.active = nil
	}
	m.keepSecrets(a.user, a.found(), a.active)
}

// keepSecrets makes newest what the newest version of a resource refers to, and active what
// the version in use does while that one warms. What neither does is let go.
func (m *Manager) keepSecrets(user string, newest, active []*namedSecret) {
	held := union(m.secretsOf[user], m.before.secrets[user])
	delete(m.secretsOf, user)
	delete(m.before.secrets, user)
	if len(newest) > 0 {
		m.secretsOf[user] = newest
	}
	if len(active) > 0 {
		m.before.secrets[user] = active
	}
	for _, s := range held {
		if !slices.Contains(newest, s) && !slices.Contains(active, s) && s.ref.path != staticSecrets {
			m.drop(m.secrets, s.ref, user)
			m.forgetSecret(s)
		}
	}
}

// giveBack forgets what was asked for, since the resource was refused.
func (a *asked) giveBack() {
	for _, x := range a.list {
		a.m.forgetSecret(x.s)
	}
}

// forgetSecret forgets a secret that nobody refers to. The lock is held.
func (m *Manager) forgetSecret(s *namedSecret) {
	if len(m.secrets.users[s.ref]) > 0 || m.secretTable[s.ref] != s {
		return
	}
	delete(m.secretTable, s.ref)
	m.secretFilesChanged()
}

// listenerPrefix marks listeners among the users of secrets; clusters go by their names.
const listenerPrefix = "\x00listener\x00"

func listenerUser(name string) string { return listenerPrefix + name }

// userWarming reports whether the newest version of a user of secrets is not in use yet.
func (m *Manager) userWarming(user string) bool {
	if name, ok := strings.CutPrefix(user, listenerPrefix); ok {
		return m.engine.ListenerWarming(name)
	}
	return m.engine.ClusterWarming(user)
}

// again finds secrets for a cluster that is made anew from the same bytes: they are those
// of the first time. It takes no lock.
func again(list []*namedSecret) finder {
	return func(_ secretKind, name string, from *filter.ConfigSource) (*namedSecret, error) {
		r := secretRef(name, from)
		for _, s := range list {
			if s.ref == r {
				return s, nil
			}
		}
		return nil, fmt.Errorf("secret %q: was not referred to before", name)
	}
}
