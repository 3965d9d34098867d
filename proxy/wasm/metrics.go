package wasm

import "github.com/mecha-mesh/mecha/proxy/stats"

// metric is a metric that a guest has defined: one of the three.
type metric struct {
	typ       uint32
	counter   *stats.Counter
	gauge     *stats.Gauge
	histogram *stats.Histogram
}

// The types of metrics.
const (
	counterMetric = iota
	gaugeMetric
	histogramMetric
)

const metricHelp = "A metric that a plugin has defined."

func (in *Instance) defineMetric(a []uint64) Status {
	p, ok := in.view(a[1], a[2])
	if !ok {
		return StatusInvalidMemoryAccess
	}
	typ, name := uint32(a[0]), string(p)
	b := in.vm.broker
	if typ > histogramMetric || name == "" || b.scope == nil {
		return StatusBadArgument
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.metered[name]
	if n != 0 && b.metrics[n-1].typ != typ {
		return StatusBadArgument
	}
	if n == 0 {
		if len(b.metrics) >= maxMetrics {
			return StatusInternalFailure
		}
		m := metric{typ: typ}
		switch typ {
		case counterMetric:
			m.counter = b.scope.Counter(name, metricHelp)
		case gaugeMetric:
			m.gauge = b.scope.Gauge(name, metricHelp)
		default:
			m.histogram = b.scope.Histogram(name, metricHelp)
		}
		b.metrics = append(b.metrics, m)
		n = uint32(len(b.metrics))
		b.metered[name] = n
	}
	return in.put32(a[3], n)
}

func (b *broker) metric(n uint64) (m metric, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := uint32(n); i > 0 && int(i) <= len(b.metrics) {
		return b.metrics[i-1], true
	}
	return m, false
}

func (in *Instance) incrementMetric(a []uint64) Status {
	m, ok := in.vm.broker.metric(a[0])
	by := int64(a[1])
	switch {
	case !ok:
		return StatusNotFound
	case m.counter != nil && by >= 0:
		m.counter.Add(uint64(by))
	case m.gauge != nil:
		m.gauge.Add(by)
	default:
		return StatusBadArgument
	}
	return StatusOK
}

func (in *Instance) recordMetric(a []uint64) Status {
	m, ok := in.vm.broker.metric(a[0])
	switch {
	case !ok:
		return StatusNotFound
	case m.counter != nil:
		m.counter.Add(a[1])
	case m.gauge != nil:
		m.gauge.Set(int64(a[1]))
	default:
		m.histogram.Record(a[1])
	}
	return StatusOK
}

func (in *Instance) getMetric(a []uint64) Status {
	m, ok := in.vm.broker.metric(a[0])
	var v uint64
	switch {
	case !ok:
		return StatusNotFound
	case m.counter != nil:
		v = m.counter.Value()
	case m.gauge != nil:
		v = uint64(m.gauge.Value())
	default:
		return StatusBadArgument
	}
	if !in.memory.WriteUint64Le(uint32(a[1]), v) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}
