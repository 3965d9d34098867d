package stats

// BucketRule says which buckets the histograms with matching dotted names show
// (stats_config.histogram_bucket_settings). The first that matches counts.
type BucketRule struct {
	Match  func(name string) bool
	Bounds []float64 // upper bounds, rising
}

type bucketRules []BucketRule

// SetBuckets says which buckets histograms show. The slice is moved to the store.
func (st *Store) SetBuckets(rules []BucketRule) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.bounds = rules
}

// of returns the bounds of a histogram. They are shared and must not be changed.
func (rs bucketRules) of(name string) []float64 {
	for i := range rs {
		if rs[i].Match(name) {
			return rs[i].Bounds
		}
	}
	return defaultBounds[:]
}

// defaultBounds are Envoy's.
var defaultBounds = [...]float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}
