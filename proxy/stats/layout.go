package stats

import (
	"fmt"
	"reflect"
	"slices"
)

// layout says where the metrics of one struct type are. It is made once for a type,
// so that binding a struct costs two words however many metrics it has.
type layout struct {
	fields     []field
	histograms [][]int // the indices of those among the fields
	names      map[string]struct{}
	real       map[string]bool // names of fields that are not Never
}

type field struct {
	index      []int // for reflect.Value.FieldByIndex
	name, help string
	never      bool // Never or NeverGauge: a field that counts takes its place
}

// layoutOf reads the tags of a struct type. Mistakes panic.
func layoutOf(t reflect.Type) *layout {
	l := &layout{names: map[string]struct{}{}, real: map[string]bool{}}
	l.read(t, nil)
	l.fields = slices.DeleteFunc(l.fields, func(f field) bool { return f.never && l.real[f.name] })
	return l
}

func (l *layout) read(t reflect.Type, path []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(path[:len(path):len(path)], i)
		if !isMetric(f.Type) {
			if f.Anonymous && f.Type.Kind() == reflect.Struct {
				l.read(f.Type, index)
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		name, help := f.Tag.Get("stat"), f.Tag.Get("help")
		if name == "" || help == "" {
			panic(fmt.Sprintf("stats: %s.%s: needs the tags stat and help", t, f.Name))
		}
		never := f.Type == reflect.TypeFor[Never]() || f.Type == reflect.TypeFor[NeverGauge]()
		if !never {
			if l.real[name] {
				panic(fmt.Sprintf("stats: %s.%s: the name %s is taken by another field", t, f.Name, name))
			}
			l.real[name] = true
		}
		l.names[name] = struct{}{}
		l.fields = append(l.fields, field{index, name, help, never})
		if f.Type == reflect.TypeFor[Histogram]() {
			l.histograms = append(l.histograms, index)
		}
	}
}

func isMetric(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[Counter](), reflect.TypeFor[Gauge](), reflect.TypeFor[Histogram](),
		reflect.TypeFor[TextReadout](), reflect.TypeFor[ClassCounters](), reflect.TypeFor[CodeCounters](),
		reflect.TypeFor[Never](), reflect.TypeFor[NeverGauge]():
		return true
	}
	return false
}

// binding is a struct whose metrics a scope shows.
type binding struct {
	value  reflect.Value // addressable
	layout *layout
}

// each calls f with the metrics of the struct. m carries prefix, family and labels
// of the scope.
func (b *binding) each(m Metric, t *Tags, f func(Metric)) {
	for i := range b.layout.fields {
		fl := &b.layout.fields[i]
		one := m
		one.Name, one.Help = join(m.Name, fl.name), fl.help
		switch x := b.value.FieldByIndex(fl.index).Addr().Interface().(type) {
		case *Counter:
			one.Counter = x
		case *Gauge:
			one.Gauge = x
		case *Histogram:
			one.Histogram = x
		case *TextReadout:
			one.Text = x
		case *Never:
			one.Counter = new(Counter)
		case *NeverGauge:
			one.Gauge = new(Gauge)
		case *ClassCounters:
			x.each(one, true, t, f)
			continue
		case *CodeCounters:
			x.each(one, t, f)
			continue
		}
		f(one)
	}
}
