package fromproto

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	commonmatcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	hashingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/consistent_hashing/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/metadata/v3"
	fractionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/runtime_fraction/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
)

// TreeOptions is how a match tree reads its context and what it leads to.
type TreeOptions[C, A any] struct {
	// Input converts the configuration of an input: NetworkInput or HTTPInput, or a
	// function that knows more than these.
	Input func(c filter.Any) (TreeInput[C], error)
	// Action converts an action; name is that of its TypedExtensionConfig.
	Action func(name string, c filter.Any) (A, error)
}

// TreeInput is an input and what its values are.
type TreeInput[C any] struct {
	Get  tree.Input[C]
	Kind ValueKind
}

// ValueKind is what the values of an input are. Each matcher takes one kind.
type ValueKind uint8

// The kinds.
const (
	TextValue       ValueKind = iota
	StructuredValue           // metadata
	AttributesValue           // all attributes, as attributes.Source
)

// Tree compiles an xds.type.matcher.v3.Matcher.
func Tree[C, A any](pb *xdsmatcherv3.Matcher, p *filter.Parser, o TreeOptions[C, A]) (*tree.Tree[C, A], error) {
	b := &treeBuilder[C, A]{p, o}
	m, err := b.matcher(pb)
	if err != nil {
		return nil, err
	}
	return tree.New(m), nil
}

// EnvoyTree is Tree for the older name of the message, envoy.config.common.matcher.v3.Matcher,
// which has the same fields under the same numbers.
func EnvoyTree[C, A any](pb *commonmatcherv3.Matcher, p *filter.Parser, o TreeOptions[C, A]) (*tree.Tree[C, A], error) {
	var same xdsmatcherv3.Matcher
	if err := convert(pb, &same); err != nil {
		return nil, err
	}
	return Tree(&same, p, o)
}

// convert copies a message into one of another type with the same fields.
func convert(from, to proto.Message) error {
	raw, err := proto.Marshal(from)
	if err != nil {
		return err
	}
	return Unmarshal(raw, to)
}

type treeBuilder[C, A any] struct {
	p *filter.Parser
	o TreeOptions[C, A]
}

func (b *treeBuilder[C, A]) matcher(pb *xdsmatcherv3.Matcher) (tree.Matcher[C, A], error) {
	none, err := b.on(pb.GetOnNoMatch())
	if err != nil {
		return nil, filter.At("on_no_match", err)
	}
	switch m := pb.GetMatcherType().(type) {
	case nil:
		return &tree.Always[C, A]{On: none}, nil
	case *xdsmatcherv3.Matcher_MatcherList_:
		list, err := b.list(m.MatcherList, none)
		return list, filter.At("matcher_list", err)
	case *xdsmatcherv3.Matcher_MatcherTree_:
		t, err := b.tree(m.MatcherTree, none)
		return t, filter.At("matcher_tree", err)
	default:
		return nil, fmt.Errorf("this build does not support the matcher %T", m)
	}
}

// on converts an OnMatch; one that says nothing leads nowhere.
func (b *treeBuilder[C, A]) on(pb *xdsmatcherv3.Matcher_OnMatch) (*tree.On[C, A], error) {
	out := &tree.On[C, A]{Keep: pb.GetKeepMatching()}
	var err error
	switch m := pb.GetOnMatch().(type) {
	case nil:
		return nil, nil
	case *xdsmatcherv3.Matcher_OnMatch_Matcher:
		out.Next, err = b.matcher(m.Matcher)
		return out, filter.At("matcher", err)
	case *xdsmatcherv3.Matcher_OnMatch_Action:
		c, err := Any(m.Action.GetTypedConfig())
		if err != nil {
			return nil, filter.At("action", filter.At("typed_config", err))
		}
		out.Action, err = b.o.Action(m.Action.GetName(), c)
		return out, filter.At("action", err)
	default:
		return nil, fmt.Errorf("this build does not support %T", m)
	}
}

// must is on for what has to lead somewhere.
func (b *treeBuilder[C, A]) must(pb *xdsmatcherv3.Matcher_OnMatch) (*tree.On[C, A], error) {
	on, err := b.on(pb)
	if err == nil && on == nil {
		err = errors.New("one of matcher, action must be set")
	}
	return on, filter.At("on_match", err)
}

func (b *treeBuilder[C, A]) list(pb *xdsmatcherv3.Matcher_MatcherList, none *tree.On[C, A]) (*tree.List[C, A], error) {
	out := &tree.List[C, A]{None: none}
	for i, m := range pb.GetMatchers() {
		p, err := b.predicate(m.GetPredicate())
		if err != nil {
			return nil, filter.AtIndex("matchers", i, filter.At("predicate", err))
		}
		on, err := b.must(m.GetOnMatch())
		if err != nil {
			return nil, filter.AtIndex("matchers", i, err)
		}
		out.Items = append(out.Items, tree.Item[C, A]{If: p, On: on})
	}
	return out, nil
}

func (b *treeBuilder[C, A]) predicate(pb *xdsmatcherv3.Matcher_MatcherList_Predicate) (tree.Predicate[C], error) {
	switch m := pb.GetMatchType().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_:
		p, err := b.single(m.SinglePredicate)
		return p, filter.At("single_predicate", err)
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher:
		list, err := b.predicates(m.OrMatcher)
		return tree.Any[C](list), filter.At("or_matcher", err)
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher:
		list, err := b.predicates(m.AndMatcher)
		return tree.All[C](list), filter.At("and_matcher", err)
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher:
		p, err := b.predicate(m.NotMatcher)
		return &tree.Not[C]{P: p}, filter.At("not_matcher", err)
	case nil:
		return nil, errors.New("one of single_predicate, or_matcher, and_matcher, not_matcher must be set")
	default:
		return nil, fmt.Errorf("this build does not support the predicate %T", m)
	}
}

func (b *treeBuilder[C, A]) predicates(pb *xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList) ([]tree.Predicate[C], error) {
	var out []tree.Predicate[C]
	for i, m := range pb.GetPredicate() {
		p, err := b.predicate(m)
		if err != nil {
			return nil, filter.AtIndex("predicate", i, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (b *treeBuilder[C, A]) single(pb *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate) (tree.Predicate[C], error) {
	in, err := b.input(pb.GetInput())
	if err != nil {
		return nil, err
	}
	out := &tree.Single[C]{Input: in.Get}
	kind := TextValue
	switch m := pb.GetMatcher().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch:
		s, err := xdsString(m.ValueMatch)
		if err != nil {
			return nil, filter.At("value_match", err)
		}
		out.Value = &tree.String{String: s}
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch:
		if out.Value, kind, err = customMatch(m.CustomMatch, b.p); err != nil {
			return nil, filter.At("custom_match", err)
		}
	case nil:
		return nil, errors.New("one of value_match, custom_match must be set")
	default:
		return nil, fmt.Errorf("this build does not support the matcher %T", m)
	}
	if kind != in.Kind {
		return nil, filter.At("input", fmt.Errorf("the matcher cannot take what the input %s reads", TypeName(pb.Input.TypedConfig.GetTypeUrl())))
	}
	return out, nil
}

func (b *treeBuilder[C, A]) input(pb *xdscorev3.TypedExtensionConfig) (TreeInput[C], error) {
	c, err := Any(pb.GetTypedConfig())
	if err != nil {
		return TreeInput[C]{}, filter.At("input", filter.At("typed_config", err))
	}
	in, err := b.o.Input(c)
	return in, filter.At("input", err)
}

func xdsString(pb *xdsmatcherv3.StringMatcher) (match.String, error) {
	var same matcherv3.StringMatcher
	if err := convert(pb, &same); err != nil {
		return match.String{}, err
	}
	return String(&same)
}

// customMatch converts an input matcher, and tells what it takes.
func customMatch(pb *xdscorev3.TypedExtensionConfig, p *filter.Parser) (m tree.ValueMatcher, kind ValueKind, err error) {
	c, err := Any(pb.GetTypedConfig())
	if err != nil {
		return nil, TextValue, filter.At("typed_config", err)
	}
	switch c.Type {
	case "envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing":
		var h hashingv3.ConsistentHashing
		if err := Unmarshal(c.Value, &h); err != nil {
			return nil, TextValue, err
		}
		if h.Threshold > h.Modulo {
			return nil, TextValue, filter.At("threshold", fmt.Errorf("cannot be greater than modulo: %d > %d", h.Threshold, h.Modulo))
		}
		return &tree.Hashed{Threshold: h.Threshold, Modulo: h.Modulo, Seed: h.Seed}, TextValue, nil
	case "envoy.extensions.matching.input_matchers.ip.v3.Ip":
		var ip ipv3.Ip
		if err := Unmarshal(c.Value, &ip); err != nil {
			return nil, TextValue, err
		}
		if err := Check(&ip, p, Fields{Used: []string{"cidr_ranges"}, Ignored: []string{"stat_prefix"}}); err != nil {
			return nil, TextValue, err
		}
		ranges, err := CIDRs("cidr_ranges", ip.CidrRanges)
		return &tree.Addresses{Ranges: ranges}, TextValue, err
	case "envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction":
		var f fractionv3.RuntimeFraction
		if err := Unmarshal(c.Value, &f); err != nil {
			return nil, TextValue, err
		}
		return &tree.Share{Fraction: RuntimeFraction(f.RuntimeFraction), Seed: f.Seed}, TextValue, nil
	case "envoy.extensions.matching.input_matchers.metadata.v3.Metadata":
		var v metadatav3.Metadata
		if err := Unmarshal(c.Value, &v); err != nil {
			return nil, TextValue, err
		}
		value, err := ValueMatcher(v.Value)
		return &tree.Structured{Value: value, Invert: v.Invert}, StructuredValue, filter.At("value", err)
	}
	if c.Type == celMatcher {
		e, err := celMatch(c.Value)
		return e, AttributesValue, err
	}
	return nil, TextValue, filter.At("typed_config", fmt.Errorf("this build has no input matcher of the type %q", c.Type))
}

func (b *treeBuilder[C, A]) tree(pb *xdsmatcherv3.Matcher_MatcherTree, none *tree.On[C, A]) (tree.Matcher[C, A], error) {
	in, err := b.input(pb.GetInput())
	if err != nil {
		return nil, err
	}
	if in.Kind != TextValue {
		return nil, filter.At("input", fmt.Errorf("a tree needs text, which %s does not read", TypeName(pb.Input.TypedConfig.GetTypeUrl())))
	}
	switch m := pb.GetTreeType().(type) {
	case *xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap:
		by, err := b.matchMap(m.ExactMatchMap)
		return &tree.Exact[C, A]{Input: in.Get, By: by, None: none}, filter.At("exact_match_map", err)
	case *xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap:
		by, err := b.matchMap(m.PrefixMatchMap)
		return tree.NewPrefix(in.Get, by, none), filter.At("prefix_match_map", err)
	case *xdsmatcherv3.Matcher_MatcherTree_CustomMatch:
		t, err := b.customTree(m.CustomMatch, in.Get, none)
		return t, filter.At("custom_match", err)
	case nil:
		return nil, errors.New("one of exact_match_map, prefix_match_map, custom_match must be set")
	default:
		return nil, fmt.Errorf("this build does not support the tree %T", m)
	}
}

func (b *treeBuilder[C, A]) matchMap(pb *xdsmatcherv3.Matcher_MatcherTree_MatchMap) (map[string]*tree.On[C, A], error) {
	by := make(map[string]*tree.On[C, A], len(pb.GetMap()))
	for key, m := range pb.GetMap() {
		on, err := b.on(m)
		if err == nil && on == nil {
			err = errors.New("one of matcher, action must be set")
		}
		if err != nil {
			return nil, filter.At(element("map", key), err)
		}
		by[key] = on
	}
	return by, nil
}

func (b *treeBuilder[C, A]) customTree(pb *xdscorev3.TypedExtensionConfig, in tree.Input[C], none *tree.On[C, A]) (tree.Matcher[C, A], error) {
	c, err := Any(pb.GetTypedConfig())
	if err != nil {
		return nil, filter.At("typed_config", err)
	}
	switch c.Type {
	case "xds.type.matcher.v3.IPMatcher":
		return b.ranges(c.Value, in, none)
	case "xds.type.matcher.v3.ServerNameMatcher":
		return b.names(c.Value, in, none)
	}
	return nil, filter.At("typed_config", fmt.Errorf("this build has no matcher of the type %q", c.Type))
}

func (b *treeBuilder[C, A]) ranges(raw []byte, in tree.Input[C], none *tree.On[C, A]) (tree.Matcher[C, A], error) {
	var pb xdsmatcherv3.IPMatcher
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	out := &tree.Ranges[C, A]{Input: in, None: none}
	for i, m := range pb.RangeMatchers {
		at := func(err error) error { return filter.AtIndex("range_matchers", i, err) }
		on, err := b.must(m.GetOnMatch())
		if err != nil {
			return nil, at(err)
		}
		for j, r := range m.GetRanges() {
			prefix, err := CIDR(r)
			if err != nil {
				return nil, at(filter.AtIndex("ranges", j, err))
			}
			out.Add(prefix, m.Exclusive, on)
		}
	}
	return out, nil
}

func (b *treeBuilder[C, A]) names(raw []byte, in tree.Input[C], none *tree.On[C, A]) (tree.Matcher[C, A], error) {
	var pb xdsmatcherv3.ServerNameMatcher
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	by := map[string]*tree.On[C, A]{}
	for i, m := range pb.DomainMatchers {
		at := func(err error) error { return filter.AtIndex("domain_matchers", i, err) }
		on, err := b.must(m.GetOnMatch())
		if err != nil {
			return nil, at(err)
		}
		for j, name := range m.GetDomains() {
			if err := checkDomain(name); err != nil {
				return nil, at(filter.AtIndex("domains", j, err))
			}
			if by[name] != nil {
				return nil, at(filter.AtIndex("domains", j, fmt.Errorf("%q stands there twice", name)))
			}
			by[name] = on
		}
	}
	return tree.NewNames(in, by, none), nil
}

func checkDomain(name string) error {
	suffix, wild := strings.CutPrefix(name, "*.")
	switch {
	case name == "":
		return errors.New("must not be empty")
	case name != "*" && (strings.Contains(suffix, "*") || wild && suffix == ""):
		return fmt.Errorf("%q: a wildcard stands alone or in front, as in *.example.com", name)
	}
	return nil
}

// ValueMatcher converts a ValueMatcher.
func ValueMatcher(pb *matcherv3.ValueMatcher) (match.Value, error) {
	switch m := pb.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_NullMatch_:
		return match.ValueNull(), nil
	case *matcherv3.ValueMatcher_DoubleMatch:
		if r, ok := m.DoubleMatch.GetMatchPattern().(*matcherv3.DoubleMatcher_Range); ok {
			return match.ValueRange(r.Range.GetStart(), r.Range.GetEnd()), nil
		}
		return match.ValueNumber(m.DoubleMatch.GetExact()), nil
	case *matcherv3.ValueMatcher_StringMatch:
		s, err := String(m.StringMatch)
		return match.ValueText(s), filter.At("string_match", err)
	case *matcherv3.ValueMatcher_BoolMatch:
		return match.ValueBool(m.BoolMatch), nil
	case *matcherv3.ValueMatcher_PresentMatch:
		return match.ValuePresent(m.PresentMatch), nil
	case *matcherv3.ValueMatcher_ListMatch:
		one, err := ValueMatcher(m.ListMatch.GetOneOf())
		return match.ValueList(one), filter.At("list_match", filter.At("one_of", err))
	case *matcherv3.ValueMatcher_OrMatch:
		var all []match.Value
		for i, v := range m.OrMatch.GetValueMatchers() {
			one, err := ValueMatcher(v)
			if err != nil {
				return match.Value{}, filter.At("or_match", filter.AtIndex("value_matchers", i, err))
			}
			all = append(all, one)
		}
		return match.ValueOr(slices.Clip(all)), nil
	case nil:
		return match.Value{}, errors.New("one of null_match, double_match, string_match, bool_match, present_match, list_match, or_match must be set")
	default:
		return match.Value{}, fmt.Errorf("this build does not support the value matcher %T", m)
	}
}
