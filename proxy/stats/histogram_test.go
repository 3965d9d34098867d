package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func TestBucketsHoldTheirValues(t *testing.T) {
	for v := uint64(0); v < 1e13; v += 1 + v/7 {
		d, i := bucketOf(v)
		lower, width := boundsOf(d, i)
		if f := float64(v); f < lower || f >= lower+max(width, 1) {
			t.Fatalf("%d is in the bucket [%v,%v)", v, lower, lower+width)
		}
		if width > lower/10 {
			t.Fatalf("the bucket [%v,%v) is wider than 1/10", lower, lower+width)
		}
	}
	for _, p := range powers[1:decades] {
		for _, v := range []uint64{p - 1, p} {
			d, i := bucketOf(v)
			if lower, width := boundsOf(d, i); float64(v) < lower || float64(v) >= lower+max(width, 1) {
				t.Errorf("%d is in the bucket [%v,%v)", v, lower, lower+width)
			}
		}
	}
	if d, i := bucketOf(math.MaxUint64); d != decades-1 || i != 89 {
		t.Errorf("the largest value is in bucket %d/%d", d, i)
	}
}

// What Envoy 1.40 showed of the same values (cluster.upstream_rq_body_size).
func TestLikeEnvoy(t *testing.T) {
	st := NewStore()
	st.SetBuckets([]BucketRule{{func(n string) bool { return n == "size" }, []float64{1, 20.5, 300, 7000}}})
	h := st.root.Histogram("size", "Size.")
	for _, v := range []uint64{
		0, 1, 3, 7, 9, 10, 11, 20, 21, 33, 99, 100, 105, 250, 251, 255, 300, 305, 999, 1000, 2500, 4999, 5000, 5049, 12345, 70000,
	} {
		h.Record(v)
	}
	for mode, want := range map[BucketMode]string{
		DetailedBuckets: `size:
  totals=0,0:1, 1,0.1:1, 3,0.1:1, 7,0.1:1, 9,0.1:1, 10,1:1, 11,1:1, 20,1:1, 21,1:1, 33,1:1, 99,1:1, 100,10:2, 250,10:3, 300,10:2, 990,10:1, 1000,100:1, 2500,100:1, 4900,100:1, 5000,100:2, 12000,1000:1, 70000,1000:1
  intervals=
  summary=P0(nan,0) P25(nan,11.5) P50(nan,106.66666666666667) P75(nan,1050) P90(nan,5066.666666666667) P95(nan,12500) P99(nan,70500) P99.5(nan,70500) P99.9(nan,70500) P100(nan,70500)
`,
		CumulativeBuckets: "size: B1(0,2) B20.5(0,8) B300(0,18) B7000(0,24)\n",
		DisjointBuckets:   "size: B1(0,2) B20.5(0,6) B300(0,10) B7000(0,6)\n",
	} {
		if got := textOf(st, Query{Buckets: mode}); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
}

func TestQuantileError(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	draw := map[string]func() uint64{
		"uniform":     func() uint64 { return rnd.Uint64N(100000) },
		"exponential": func() uint64 { return uint64(rnd.ExpFloat64() * 250) },
		"heavy tail":  func() uint64 { return uint64(math.Min(math.Exp(rnd.NormFloat64()*3+5), 1e12)) },
		"small":       func() uint64 { return rnd.Uint64N(20) },
		"constant":    func() uint64 { return 4711 },
	}
	for name, next := range draw {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 2, 10, 1000, 20000} {
				var h Histogram
				values := make([]uint64, n)
				for i := range values {
					values[i] = next()
					h.Record(values[i])
				}
				slices.Sort(values)
				d := h.Snapshot()
				for _, q := range shownQuantiles() {
					exact := float64(values[max(int(math.Ceil(q*float64(n))), 1)-1])
					if got := d.Quantile(q); math.Abs(got-exact) > exact/10 {
						t.Errorf("n=%d P%v: %v, exactly it is %v", n, q*100, got, exact)
					}
				}
				if d.Count != uint64(n) {
					t.Errorf("count %d of %d", d.Count, n)
				}
			}
		})
	}
	var none Distribution
	if !math.IsNaN(none.Quantile(0.5)) {
		t.Error("an empty distribution has a median")
	}
}

func TestMerge(t *testing.T) {
	var a, b, both Histogram
	for v := range uint64(3000) {
		h := &a
		if v%3 == 0 || v > 2000 {
			h = &b
		}
		h.Record(v * v)
		both.Record(v * v)
	}
	d := a.Snapshot()
	d.Merge(b.Snapshot())
	want := both.Snapshot()
	if !slices.Equal(d.Buckets, want.Buckets) || d.Count != want.Count || d.Sum != want.Sum {
		t.Errorf("merged %d values of sum %d, want %d of %d", d.Count, d.Sum, want.Count, want.Sum)
	}
}

func TestInterval(t *testing.T) {
	var h Histogram
	record := func(vs ...uint64) {
		for _, v := range vs {
			h.Record(v)
		}
	}
	record(5, 5, 7)
	if n := h.Interval().Count; n != 0 {
		t.Errorf("%d values before the first flush", n)
	}
	for i, step := range []struct {
		values []uint64
		want   []Bucket
	}{
		{nil, []Bucket{{5, 0.1, 2}, {7, 0.1, 1}}},
		{[]uint64{7, 20}, []Bucket{{7, 0.1, 1}, {20, 1, 1}}},
		{nil, nil},
		{nil, nil},
		{[]uint64{5}, []Bucket{{5, 0.1, 1}}},
	} {
		record(step.values...)
		h.Flush()
		record(9) // belongs to the next interval
		if got := h.Interval().Buckets; !slices.Equal(without9(got), step.want) {
			t.Errorf("flush %d: interval %v, want %v", i, got, step.want)
		}
	}
}

// A flush that finds nothing new takes no memory for each metric, however many there are.
func TestFlushTakesNoMemoryForMetrics(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are not counted under -race")
	}
	st := NewStore()
	for range 100 {
		var m struct {
			Time  Histogram    `stat:"time" help:"Time."`
			Codes CodeCounters `stat:"rq" help:"Responses."`
			Total Counter      `stat:"total" help:"All."`
		}
		m.Time.Record(5)
		m.Codes.Count(200)
		sc := st.Scope("x")
		sc.Bind(&m)
		sc.Histogram("named", "Found by name.").Record(7)
	}
	st.Flush()
	st.Flush()                                           // ends the interval with the values
	if n := testing.AllocsPerRun(10, st.Flush); n > 20 { // the list of scopes grows
		t.Errorf("%v allocations", n)
	}
	st.Each(func(m Metric) {
		if h := m.Histogram; h != nil && (h.Interval().Count != 0 || h.Count() != 1) {
			t.Errorf("%s: %d values in the last interval of %d", m.Name, h.Interval().Count, h.Count())
		}
	})
}

func without9(bs []Bucket) []Bucket {
	return slices.DeleteFunc(slices.Clone(bs), func(b Bucket) bool { return b.Lower == 9 })
}

func TestConcurrentRecordAndRead(t *testing.T) {
	st := NewStore()
	var m struct {
		Time  Histogram    `stat:"time" help:"Time."`
		Codes CodeCounters `stat:"rq" help:"Responses."`
		Total Counter      `stat:"total" help:"All."`
	}
	st.Scope("x").Bind(&m)
	const workers, each = 8, 2000
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				m.Time.Record(uint64(i * w))
				m.Codes.Count(200 + i%3*100)
				m.Total.Inc()
			}
		})
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				st.Flush()
				if err := st.WritePrometheus(discard{}, Query{}); err != nil {
					t.Error(err)
				}
				st.Scope("y").Close()
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-done
	if n := m.Time.Count(); n != workers*each {
		t.Errorf("%d values, want %d", n, workers*each)
	}
	if n := m.Codes.Code(200) + m.Codes.Code(300) + m.Codes.Code(400); n != m.Codes.Completed() || n != workers*each {
		t.Errorf("%d responses by code, want %d", n, workers*each)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestHotPathAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are not counted under -race")
	}
	var c Counter
	var g Gauge
	var h Histogram
	var codes CodeCounters
	i := 0
	run := func() {
		i++
		c.Inc()
		g.Inc()
		g.Dec()
		h.Record(uint64(i % 500))
		codes.Count(200 + i%5)
	}
	for range 500 {
		run()
	}
	if n := testing.AllocsPerRun(1000, run); n != 0 {
		t.Errorf("%v allocations for counting, want 0", n)
	}
}

func BenchmarkHistogram(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Record(uint64(i % 1000))
	}
}

func BenchmarkCodes(b *testing.B) {
	var c CodeCounters
	for range b.N {
		c.Count(200)
	}
}
