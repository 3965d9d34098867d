package fromproto

import (
	"errors"
	"fmt"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// Mutations converts the headers to add and to remove of one level, as lists named
// request_headers_to_add and so on; nil if there are none.
func Mutations(of mutate.Message, add []*corev3.HeaderValueOption, remove []string) (*mutate.Headers, error) {
	if len(add) == 0 && len(remove) == 0 {
		return nil, nil
	}
	h, names := mutate.NewHeaders(of), "request_headers_to_"
	if of == mutate.Response {
		names = "response_headers_to_"
	}
	for i, name := range remove {
		if err := h.Remove(name); err != nil {
			return nil, filter.AtIndex(names+"remove", i, err)
		}
	}
	for i, o := range add {
		if err := addHeader(o, h.Add); err != nil {
			return nil, filter.AtIndex(names+"add", i, err)
		}
	}
	return h, nil
}

// addHeader converts a HeaderValueOption and gives it to add.
func addHeader(o *corev3.HeaderValueOption, add func(name, value string, a mutate.Action, keepEmpty bool) error) error {
	hv := o.GetHeader()
	if hv == nil {
		return filter.At("header", errors.New("is required"))
	}
	value := hv.Value
	if len(hv.RawValue) > 0 {
		if value != "" {
			return filter.At("header", errors.New("only one of value and raw_value may be set"))
		}
		value = string(hv.RawValue)
	}
	action := mutate.Action(o.AppendAction)
	if old := o.Append; old != nil { //nolint:staticcheck // deprecated, still sent
		if o.AppendAction != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD {
			return filter.At("append", errors.New("cannot be set together with append_action"))
		}
		if !old.Value {
			action = mutate.OverwriteOrAdd
		}
	}
	if action > mutate.OverwriteIfPresent {
		return filter.At("append_action", fmt.Errorf("this build does not support %s", o.AppendAction))
	}
	return filter.At("header", add(hv.Key, value, action, o.KeepEmptyValue))
}

// HeaderMutations converts an ordered list of HeaderMutations; nil if it is empty.
// field is its name, for errors.
func HeaderMutations(of mutate.Message, field string, list []*mutationv3.HeaderMutation) (*mutate.List, error) {
	if len(list) == 0 {
		return nil, nil
	}
	l := mutate.NewList(of)
	for i, pb := range list {
		if err := headerMutation(pb, l); err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
	}
	return l, nil
}

func headerMutation(pb *mutationv3.HeaderMutation, l *mutate.List) error {
	switch m := pb.GetAction().(type) {
	case *mutationv3.HeaderMutation_Remove:
		return filter.At("remove", l.Remove(m.Remove))
	case *mutationv3.HeaderMutation_Append:
		return filter.At("append", addHeader(m.Append, l.Add))
	case *mutationv3.HeaderMutation_RemoveOnMatch_:
		s, err := String(m.RemoveOnMatch.GetKeyMatcher())
		if err != nil {
			return filter.At("remove_on_match.key_matcher", err)
		}
		l.RemoveMatching(s.Match)
		return nil
	case nil:
		return errors.New("one of remove, append, remove_on_match must be set")
	default:
		return fmt.Errorf("this build does not support the mutation %T", m)
	}
}
