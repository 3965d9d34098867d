package stats

import "math"

// Bucket is the number of recorded values in [Lower, Lower+Width). The buckets of
// values below 10 are taken to be 0.1 wide, and that of 0 not to be wide at all, as
// Envoy does; it shows in quantiles.
type Bucket struct {
	Lower, Width float64
	Count        uint64
}

// Distribution is the content of one or several histograms: buckets that are not
// empty, by rising Lower. The zero value is empty.
type Distribution struct {
	Buckets    []Bucket
	Count, Sum uint64
}

// Merge adds what o counted to d.
func (d *Distribution) Merge(o Distribution) {
	out := make([]Bucket, 0, max(len(d.Buckets), len(o.Buckets)))
	a, b := d.Buckets, o.Buckets
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Lower < b[0].Lower:
			out, a = append(out, a[0]), a[1:]
		case a[0].Lower > b[0].Lower:
			out, b = append(out, b[0]), b[1:]
		default:
			out = append(out, Bucket{a[0].Lower, a[0].Width, a[0].Count + b[0].Count})
			a, b = a[1:], b[1:]
		}
	}
	d.Buckets = append(append(out, a...), b...)
	d.Count += o.Count
	d.Sum += o.Sum
}

// minus returns what d has more than o, an earlier snapshot of the same histogram.
func (d *Distribution) minus(o Distribution) Distribution {
	out := Distribution{Sum: d.Sum - o.Sum}
	for _, b := range d.Buckets {
		for len(o.Buckets) > 0 && o.Buckets[0].Lower < b.Lower {
			o.Buckets = o.Buckets[1:]
		}
		if len(o.Buckets) > 0 && o.Buckets[0].Lower == b.Lower {
			b.Count -= o.Buckets[0].Count
		}
		if b.Count != 0 {
			out.Buckets = append(out.Buckets, b)
			out.Count += b.Count
		}
	}
	return out
}

// Quantile estimates the value below which the share q (0 to 1) of all values lies,
// NaN if there are none. It lies in the bucket of the exact answer; the n values of a
// bucket are taken to cut it into n+1 equal parts.
func (d *Distribution) Quantile(q float64) float64 {
	if d.Count == 0 {
		return math.NaN()
	}
	rank := max(math.Ceil(min(max(q, 0), 1)*float64(d.Count)), 1)
	seen := 0.0
	for _, b := range d.Buckets {
		n := float64(b.Count)
		if rank <= seen+n {
			return b.Lower + b.Width*((rank-seen)/(n+1))
		}
		seen += n
	}
	last := d.Buckets[len(d.Buckets)-1]
	return last.Lower + last.Width
}

// CountBelow returns how many values were at most bound. A bucket that the bound
// cuts counts as below it, as in Envoy.
func (d *Distribution) CountBelow(bound float64) uint64 {
	var n uint64
	for _, b := range d.Buckets {
		if b.Lower > bound {
			break
		}
		n += b.Count
	}
	return n
}
