package stats

import (
	"strconv"
	"sync/atomic"
)

// ClassCounters counts responses by the class of their code. Bound under the tag
// stat:"downstream_rq" it shows downstream_rq_1xx to downstream_rq_5xx and
// downstream_rq_completed, used or not. The zero value works; counting takes no lock.
type ClassCounters struct {
	completed Counter
	class     [6]Counter // by first digit; [0] is every code that is not 100 to 599
}

// Count counts one response.
func (c *ClassCounters) Count(code int) {
	c.completed.Inc()
	c.class[classOf(code)].Inc()
}

// Completed returns the number of responses counted.
func (c *ClassCounters) Completed() uint64 { return c.completed.Value() }

// Class returns the number of responses of a class, 1 to 5.
func (c *ClassCounters) Class(digit int) uint64 { return c.class[digit].Value() }

func classOf(code int) int {
	if code < 100 || code > 599 {
		return 0
	}
	return code / 100
}

// CodeCounters counts responses by class and by code. Bound under the tag
// stat:"upstream_rq" it shows upstream_rq_completed, upstream_rq_2xx and upstream_rq_200
// once there was such a response. The zero value works; counting
// takes no lock, and no memory except for the first response with a code.
type CodeCounters struct {
	ClassCounters
	pages atomic.Pointer[codePages]
}

// codePages holds one counter for each code from 100 to 611, 32 at a time.
type (
	codePages [512 / codePageLen]atomic.Pointer[codePage]
	codePage  [codePageLen]Counter
)

const codePageLen = 32

// CountCompleted counts one response, but not its code.
func (c *ClassCounters) CountCompleted() { c.completed.Inc() }

// Count counts one response.
func (c *CodeCounters) Count(code int) {
	c.ClassCounters.Count(code)
	if classOf(code) != 0 {
		c.make(code).Inc()
	}
}

// make returns the counter of a code from 100 to 599.
func (c *CodeCounters) make(code int) *Counter {
	pages := c.pages.Load()
	if pages == nil {
		c.pages.CompareAndSwap(nil, new(codePages))
		pages = c.pages.Load()
	}
	i := code - 100
	page := pages[i/codePageLen].Load()
	if page == nil {
		pages[i/codePageLen].CompareAndSwap(nil, new(codePage))
		page = pages[i/codePageLen].Load()
	}
	return &page[i%codePageLen]
}

// Code returns the number of responses with that code.
func (c *CodeCounters) Code(code int) uint64 {
	if p := c.counter(code); p != nil {
		return p.Value()
	}
	return 0
}

// counter returns the counter of a code if there is one.
func (c *CodeCounters) counter(code int) *Counter {
	pages := c.pages.Load()
	if pages == nil || classOf(code) == 0 {
		return nil
	}
	page := pages[(code-100)/codePageLen].Load()
	if page == nil {
		return nil
	}
	return &page[(code-100)%codePageLen]
}

// each calls f with the metrics of c. m carries the name, help and labels of the field
// that c is.
func (c *ClassCounters) each(m Metric, always bool, t *Tags, f func(Metric)) {
	one := m
	one.Name, one.Counter = m.Name+"_completed", &c.completed
	f(one)
	for digit := range c.class {
		p := &c.class[digit]
		if p.Value() == 0 && (!always || digit == 0) {
			continue
		}
		one := m
		one.Counter = p
		if digit == 0 {
			one.Name = m.Name + "_unknown"
		} else {
			d := strconv.Itoa(digit)
			one.Name = m.Name + "_" + d + "xx"
			if !t.hides(classLabel) {
				one.cut(len(m.Name)+1, len(m.Name)+2)
				one.Labels = with(m.Labels, Label{classLabel, d})
			}
		}
		f(one)
	}
}

const (
	classLabel = "envoy_response_code_class"
	codeLabel  = "envoy_response_code"
)

func (c *CodeCounters) each(m Metric, t *Tags, f func(Metric)) {
	if c.completed.Value() == 0 {
		return
	}
	c.ClassCounters.each(m, false, t, f)
	pages := c.pages.Load()
	if pages == nil {
		return
	}
	for i := range pages {
		page := pages[i].Load()
		if page == nil {
			continue
		}
		for j := range page {
			if page[j].Value() == 0 {
				continue
			}
			one, code := m, strconv.Itoa(100+i*codePageLen+j)
			one.Counter = &page[j]
			one.Name = m.Name + "_" + code
			if !t.hides(codeLabel) {
				one.cut(len(m.Name), len(one.Name))
				one.Labels = with(m.Labels, Label{codeLabel, code})
			}
			f(one)
		}
	}
}

// with returns labels and one more; labels stays as it is.
func with(labels []Label, l Label) []Label {
	return append(labels[:len(labels):len(labels)], l)
}
