package stats

import (
	"cmp"
	"slices"
)

// SetMaxSeries limits how many series of one name WritePrometheus writes; 0 is no
// limit. A monitoring system pays for each series for as long as it keeps data, and one
// runaway label has brought down many.
func (st *Store) SetMaxSeries(n int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.most = n; n > 0 {
		st.root.named = map[string]Metric{foldedName: {
			Help: "Series that the last scrape found beyond the limit for one name, and added up in one.", Gauge: &st.folded,
		}}
	}
}

const foldedName = "server.mecha_stats_series_folded"

// fold adds up in one series, labelled overflow="true", what a family has beyond the
// limit. Those of the oldest scopes stay, so that what a scrape showed does not vanish
// because something new came. It returns how many it added up.
func fold(group []series, most int) ([]series, int) {
	if most <= 0 || len(group) <= most {
		return group, 0
	}
	slices.SortStableFunc(group, func(a, b series) int { return cmp.Compare(a.seq, b.seq) })
	rest := group[most:]
	one := series{
		name: rest[0].name, family: rest[0].family, labels: []Label{{"overflow", "true"}},
		kind: rest[0].kind, bounds: rest[0].bounds, used: true,
	}
	for i := range rest {
		one.value += rest[i].value
		one.total.Merge(rest[i].total)
		one.last.Merge(rest[i].last)
	}
	return append(group[:most:most], one), len(rest)
}
