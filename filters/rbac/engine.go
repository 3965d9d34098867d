package rbac

import (
	"net/http"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/cel"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// action is RBAC.Action.
type action uint8

const (
	allow action = iota
	deny
	log // lets everything through, and says for the access log what has matched
)

// engine decides by policies, or by a match tree in place of them.
type engine struct {
	action   action
	policies []policy // in the order of their names

	treed   bool
	streams *tree.Tree[*filter.Stream, *outcome]
	conns   *tree.Tree[*filter.Conn, *outcome]

	logs bool // there is a LOG action
}

// policy matches where one of the permissions and one of the principals does, and the
// condition, if there is one, is true.
type policy struct {
	*policyName
	permissions, principals matcher
	condition               *cel.Program
}

func (p *policy) matches(s *subject) bool {
	return p.permissions.matches(s) && p.principals.matches(s) &&
		(p.condition == nil || p.condition.Match(attributes.Source{Stream: s.stream, Conn: s.session}))
}

// outcome is what a match tree leads to.
type outcome struct {
	*policyName
	action action
}

// policyName is what of a policy, or of an action, is told to others.
type policyName struct {
	name   string
	boxed  any // the name, for metadata
	denial *filter.Reply
	detail string
	logged bool // it is a LOG action of a tree
}

func named(name string) *policyName {
	detail := "rbac_access_denied_matched_policy[" + strings.Map(notBlank, name) + "]"
	return &policyName{name: name, boxed: name, detail: detail, denial: denial(detail)}
}

// notBlank keeps the fields of an access log apart.
func notBlank(r rune) rune {
	if strings.ContainsRune(" \t\n\v\f\r", r) {
		return '_'
	}
	return r
}

func denial(detail string) *filter.Reply {
	return &filter.Reply{Code: http.StatusForbidden, Body: "RBAC: access denied", Details: detail}
}

// unmatchedDetail and unmatched deny what no policy speaks of.
const unmatchedDetail = "rbac_access_denied_matched_policy[none]"

var unmatched = denial(unmatchedDetail)

// decide reports whether s is let through, and the policy that has matched, nil if none
// has.
func (e *engine) decide(s *subject) (allowed bool, by *policyName) {
	if e.treed {
		o := e.lookUp(s)
		if o == nil {
			return false, nil
		}
		return o.action != deny, o.policyName
	}
	for i := range e.policies {
		if p := &e.policies[i]; p.matches(s) {
			return e.action != deny, p.policyName
		}
	}
	return e.action != allow, nil
}

// lookUp is what the tree leads to; nil is nowhere, also where it can not tell.
func (e *engine) lookUp(s *subject) (o *outcome) {
	res := tree.NoMatch
	switch {
	case s.stream != nil && e.streams != nil:
		o, res = e.streams.Find(s.stream)
	case s.session != nil && e.conns != nil:
		o, res = e.conns.Find(s.session)
	}
	if res != tree.Match {
		return nil
	}
	return o
}

// hint says for access logs whether a LOG action has matched, if there is any; by is what
// decide has returned.
func (e *engine) hint(m *meta.Metadata, by *policyName) {
	if !e.logs {
		return
	}
	if by != nil && (!e.treed || by.logged) {
		m.Set("envoy.common", "access_log_hint", true)
	} else {
		m.Set("envoy.common", "access_log_hint", false)
	}
}
