package translate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

const (
	maxSeriesKey = "mecha.stats.max_series_per_metric"
	// defaultMaxSeries is more than any dashboard can use, and few enough for a scrape
	// to stay below a second.
	defaultMaxSeries = 10000
)

func processStats(pb *bootstrapv3.Bootstrap, c *config.Process, p *filter.Parser) (err error) {
	if c.StatsFlush, err = fromproto.PositiveDuration(pb.StatsFlushInterval, 5*time.Second); err != nil {
		return filter.At("stats_flush_interval", err)
	}
	if err := statsTimes(pb, c); err != nil {
		return err
	}
	c.Stats.MaxSeries = defaultMaxSeries
	if v, ok := c.RuntimeValue(maxSeriesKey); ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return filter.At("layered_runtime", fmt.Errorf("%s: expected a whole number, got %q", maxSeriesKey, v))
		}
		c.Stats.MaxSeries = n
	}
	return filter.At("stats_config", statsConfig(pb.StatsConfig, &c.Stats, p))
}

// statsTimes reads when intervals end and when statistics are forgotten.
func statsTimes(pb *bootstrapv3.Bootstrap, c *config.Process) (err error) {
	if pb.StatsFlushInterval != nil && (c.StatsFlush < time.Millisecond || c.StatsFlush >= 5*time.Minute) {
		return filter.At("stats_flush_interval", fmt.Errorf("%v is outside 1ms to 5m", c.StatsFlush))
	}
	if _, set := pb.StatsFlush.(*bootstrapv3.Bootstrap_StatsFlushOnAdmin); set {
		switch c.FlushOnAdmin = pb.GetStatsFlushOnAdmin(); {
		case !c.FlushOnAdmin:
			return filter.At("stats_flush_on_admin", errors.New("must be true if it is set"))
		case pb.StatsFlushInterval != nil:
			return filter.At("stats_flush_on_admin", errors.New("cannot be set together with stats_flush_interval"))
		}
	}
	if e := pb.GetStatsEvictionInterval(); e != nil {
		if c.StatsEviction, err = fromproto.PositiveDuration(e, 0); err == nil && c.StatsEviction%c.StatsFlush != 0 {
			err = fmt.Errorf("must be a multiple of stats_flush_interval, %v", c.StatsFlush)
		}
	}
	return filter.At("stats_eviction_interval", err)
}

func statsConfig(pb *metricsv3.StatsConfig, c *config.Stats, p *filter.Parser) (err error) {
	if pb == nil {
		return nil
	}
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"stats_tags", "use_all_default_tags", "stats_matcher", "histogram_bucket_settings", "allow_default_tag_overrides",
	}})
	if err != nil {
		return err
	}
	if err = statsTags(pb, c, p); err != nil {
		return err
	}
	if c.Keep, err = statsMatcher(pb.StatsMatcher); err != nil {
		return filter.At("stats_matcher", err)
	}
	for i, b := range pb.HistogramBucketSettings {
		rule, err := bucketRule(b, p)
		if err != nil {
			return filter.AtIndex("histogram_bucket_settings", i, err)
		}
		if rule.Bounds != nil {
			c.Buckets = append(c.Buckets, rule)
		}
	}
	return nil
}

// statsTags converts the tags. An expression that package regexp cannot read gives a
// warning, not an error: it only makes labels, and without it the proxy is whole.
func statsTags(pb *metricsv3.StatsConfig, c *config.Stats, p *filter.Parser) error {
	all := pb.UseAllDefaultTags == nil || pb.UseAllDefaultTags.Value
	tags := &stats.Tags{AllDefaults: all, Override: pb.GetAllowDefaultTagOverrides().GetValue(), Defaults: map[string]bool{}, Names: map[string]string{}}
	for i, t := range pb.StatsTags {
		at := func(field string, err error) error {
			return filter.AtIndex("stats_tags", i, filter.At(field, err))
		}
		label := stats.TagLabel(t.TagName)
		tags.Names[label] = t.TagName
		switch v := t.TagValue.(type) {
		case *metricsv3.TagSpecifier_FixedValue:
			c.Fixed = append(c.Fixed, stats.Label{Name: label, Value: v.FixedValue})
		case *metricsv3.TagSpecifier_Regex:
			rule, err := stats.NewTagRule(label, v.Regex)
			if err != nil {
				p.Warnings = append(p.Warnings, at("regex", err).Error())
				continue
			}
			tags.Rules = append(tags.Rules, rule)
		default:
			if !stats.IsDefaultTag(label) {
				return at("tag_name", fmt.Errorf("%q is none of the default tags, and there is no regex or fixed_value", t.TagName))
			}
			tags.Defaults[label] = true
		}
	}
	c.Tags = tags
	return nil
}

func statsMatcher(pb *metricsv3.StatsMatcher) (func(string) bool, error) {
	switch m := pb.GetStatsMatcher().(type) {
	case *metricsv3.StatsMatcher_RejectAll:
		if m.RejectAll {
			return func(string) bool { return false }, nil
		}
	case *metricsv3.StatsMatcher_InclusionList:
		any, err := anyOf(m.InclusionList)
		return any, filter.At("inclusion_list", err)
	case *metricsv3.StatsMatcher_ExclusionList:
		any, err := anyOf(m.ExclusionList)
		return func(name string) bool { return !any(name) }, filter.At("exclusion_list", err)
	}
	return nil, nil
}

func anyOf(pb *matcherv3.ListStringMatcher) (func(string) bool, error) {
	var list []match.String
	for i, m := range pb.GetPatterns() {
		s, err := fromproto.String(m)
		if err != nil {
			return nil, filter.AtIndex("patterns", i, err)
		}
		list = append(list, s)
	}
	return func(name string) bool {
		return slices.ContainsFunc(list, func(s match.String) bool { return s.Match(name) })
	}, nil
}

func bucketRule(pb *metricsv3.HistogramBucketSettings, p *filter.Parser) (r stats.BucketRule, err error) {
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{"match", "buckets"}, Ignored: []string{"bins"}})
	if err != nil {
		return r, err
	}
	m, err := fromproto.String(pb.GetMatch())
	if err != nil {
		return r, filter.At("match", err)
	}
	r.Match = m.Match
	for i, b := range pb.Buckets {
		if math.IsNaN(b) || b <= 0 {
			return r, filter.AtIndex("buckets", i, errors.New("must be greater than 0"))
		}
		r.Bounds = append(r.Bounds, b)
	}
	slices.Sort(r.Bounds)
	r.Bounds = slices.Compact(r.Bounds)
	return r, nil
}
