package stats

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Tags says which labels series carry besides those that their scopes give them
// (stats_config.stats_tags). It is immutable. The zero value takes all of Envoy's own
// labels away; a nil *Tags adds and takes away nothing.
type Tags struct {
	// AllDefaults keeps every label that Envoy has by default
	// (use_all_default_tags); else only those in Defaults are kept.
	AllDefaults bool
	Defaults    map[string]bool // by label, "envoy_cluster_name"
	// Override lets a rule replace the default of the same label
	// (allow_default_tag_overrides).
	Override bool
	Rules    []TagRule
	// Names are the names of tags as the configuration has them, by label: "my_tag" is "my.tag"
	// for sinks.
	Names map[string]string
}

// TagRule takes a label out of dotted names.
type TagRule struct {
	Label  string
	search *regexp.Regexp
	prefix string // the first segment of the names it can match; "" for any
}

// NewTagRule compiles a rule. The expression's first group is cut out of the name; its
// second, if it has two, is the value of the label, else the first is.
//
// Envoy takes ECMAScript's syntax here, which has look-ahead. Package regexp has none;
// the only use that control planes make of it, "(?=\.).*?\.", is written differently
// and means the same.
func NewTagRule(label, expr string) (TagRule, error) {
	re, err := regexp.Compile(strings.ReplaceAll(expr, `(?=\.).*?\.`, `(?:\.|\..*?\.)`))
	switch {
	case err != nil && strings.Contains(expr, "(?"):
		return TagRule{}, fmt.Errorf("look-ahead is supported as (?=\\.).*?\\. only: %w", err)
	case err != nil:
		return TagRule{}, err
	case re.NumSubexp() == 0:
		return TagRule{}, errors.New("needs a group")
	}
	return TagRule{Label: label, search: re, prefix: firstSegment(expr)}, nil
}

// firstSegment returns the word with which an expression such as `^cluster\.` begins.
// Rules with one are tried after those without, which decides between two rules of one
// label.
func firstSegment(expr string) string {
	rest, ok := strings.CutPrefix(expr, "^")
	if !ok {
		return ""
	}
	word := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return !isWord(r) }); i >= 0 {
		word = rest[:i]
	}
	rest = rest[len(word):]
	if word != "" && (rest == "$" || strings.HasPrefix(rest, `\.`) || strings.HasPrefix(rest, `(?=\.)`)) {
		return word
	}
	return ""
}

func isWord(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// prepared returns t with its rules in the order in which they are tried.
func (t *Tags) prepared() *Tags {
	if t == nil {
		return nil
	}
	out := *t
	out.Rules = slices.Clone(t.Rules)
	slices.SortStableFunc(out.Rules, func(a, b TagRule) int {
		return cmp.Compare(min(len(a.prefix), 1), min(len(b.prefix), 1))
	})
	return &out
}

// hides reports whether a label that scopes give is not wanted: its value stays in the
// name then. Labels that Envoy does not have by default are always wanted.
func (t *Tags) hides(label string) bool {
	switch {
	case t == nil || !IsDefaultTag(label):
		return false
	case t.AllDefaults:
		return t.Override && slices.ContainsFunc(t.Rules, func(r TagRule) bool { return r.Label == label })
	}
	return !t.Defaults[label]
}

// extract takes labels out of m.Name according to the rules.
func (t *Tags) extract(m *Metric) {
	if t == nil {
		return
	}
	word, _, _ := strings.Cut(m.Name, ".")
	for i := range t.Rules {
		r := &t.Rules[i]
		if r.prefix != "" && r.prefix != word || slices.ContainsFunc(m.Labels, func(l Label) bool { return l.Name == r.Label }) {
			continue
		}
		at := r.search.FindStringSubmatchIndex(m.Name)
		if at == nil {
			continue
		}
		cutFrom, cutTo, from, to := at[2], at[3], at[2], at[3]
		if len(at) > 4 {
			from, to = at[4], at[5]
		}
		value := ""
		if from >= 0 {
			value = m.Name[from:to]
		}
		m.Labels = with(m.Labels, Label{r.Label, value})
		if cutFrom >= 0 {
			m.cut(cutFrom, cutTo)
		}
	}
}

// span is a piece of Metric.Name that is not in Metric.Family.
type span struct{ from, to int }

// cut notes that a piece of the name is the value of a label.
func (m *Metric) cut(from, to int) {
	m.cuts = append(m.cuts[:len(m.cuts):len(m.cuts)], span{from, to})
}

// family returns the name without what was cut out of it.
func (m *Metric) family() string {
	if len(m.cuts) == 0 {
		return m.Name
	}
	slices.SortFunc(m.cuts, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var sb strings.Builder
	at := 0
	for _, c := range m.cuts {
		if c.from > at {
			sb.WriteString(m.Name[at:c.from])
		}
		at = max(at, c.to)
	}
	sb.WriteString(m.Name[at:])
	return sb.String()
}

// TagLabel returns Prometheus' name of a tag: "envoy.cluster_name" is
// "envoy_cluster_name".
func TagLabel(tag string) string { return string(appendPromName(nil, tag)) }

// IsDefaultTag reports whether a label is one of those that Envoy 1.40 takes out of
// names by default.
func IsDefaultTag(label string) bool {
	switch label {
	case "envoy_cluster_name", "envoy_listener_address", "envoy_http_conn_manager_prefix", "envoy_http_user_agent",
		"envoy_ssl_cipher", "envoy_cipher_suite", "envoy_grpc_bridge_method", "envoy_grpc_bridge_service", "envoy_tcp_prefix",
		"envoy_udp_prefix", "envoy_fault_downstream_cluster", "envoy_dynamo_operation", "envoy_dynamo_table",
		"envoy_dynamo_partition_id", "envoy_mongo_prefix", "envoy_mongo_cmd", "envoy_mongo_collection", "envoy_mongo_callsite",
		"envoy_ratelimit_prefix", "envoy_local_http_ratelimit_prefix", "envoy_local_network_ratelimit_prefix",
		"envoy_local_listener_ratelimit_prefix", "envoy_dns_filter_prefix", "envoy_connection_limit_prefix",
		"envoy_rbac_prefix", "envoy_rbac_http_prefix", "envoy_rbac_policy_name", "envoy_ext_authz_prefix", "envoy_route", "envoy_rds_route_config",
		"envoy_scoped_rds_config", "envoy_clientssl_prefix", "envoy_redis_prefix", "envoy_response_code",
		"envoy_response_code_class", "envoy_virtual_cluster", "envoy_virtual_host", "envoy_worker_id", "envoy_thrift_prefix",
		"envoy_google_grpc_client_prefix", "envoy_proxy_protocol_version", "envoy_proxy_protocol_prefix", "envoy_tls_certificate",
		"envoy_xds_resource_name":
		return true
	}
	return false
}
