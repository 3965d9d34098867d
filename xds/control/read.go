package control

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/bootstrap"
	_ "github.com/mecha-mesh/mecha/xds/control/linked" // every type a file may name
)

// readFile decodes every resource of one file. Warnings are worth showing even
// when all is well. The error is a *bootstrap.Error with everything that is wrong.
func readFile(src bootstrap.Source) ([]*Resource, []bootstrap.Finding, error) {
	docs, err := bootstrap.Documents(src)
	if err != nil {
		return nil, nil, err
	}
	r := reader{file: src.Name, first: map[key]int{}}
	for _, d := range docs {
		if !d.Empty() {
			r.document(d)
		}
	}
	if len(r.resources) == 0 && len(r.problems) == 0 {
		r.problem(docs[0], "no resource in this file; remove the file to remove what it held")
	}
	if len(r.problems) > 0 {
		return nil, r.warnings, &bootstrap.Error{Findings: r.problems}
	}
	return r.resources, r.warnings, nil
}

type reader struct {
	file      string
	resources []*Resource
	first     map[key]int // line of the first of a name
	warnings  []bootstrap.Finding
	problems  []bootstrap.Finding
}

func (r *reader) problem(d bootstrap.Document, format string, args ...any) {
	r.problems = append(r.problems, d.Problem(fmt.Sprintf(format, args...)).Findings...)
}

// document takes a value that is a resource or holds some.
func (r *reader) document(d bootstrap.Document) {
	if items, ok := d.Items(); ok {
		for _, item := range items {
			r.resource(item)
		}
		return
	}
	if list, ok := d.Get("resources"); ok {
		r.items(list)
		return
	}
	if static, ok := d.Get("static_resources"); ok {
		for _, k := range static.Keys() {
			list, _ := static.Get(k)
			r.items(list)
		}
		return
	}
	r.resource(d)
}

// items takes a list of resources, or the one that stands for it.
func (r *reader) items(list bootstrap.Document) {
	items, ok := list.Items()
	if !ok {
		items = []bootstrap.Document{list}
	}
	for _, item := range items {
		r.resource(item)
	}
}

func (r *reader) resource(d bootstrap.Document) {
	if d.Keys() == nil || len(d.Keys()) == 0 {
		r.problem(d, "expected a resource (an object), got %s", d.Describe())
		return
	}
	typeURL, m, ok := r.decode(d)
	if !ok {
		return
	}
	res, err := newResource(typeURL, m, r.file, d.Line())
	switch {
	case err != nil:
		r.problem(d, "%v", err)
		return
	case res.Name == "":
		r.problem(d, "the %shas no name", res) // the noun and an empty name
		return
	}
	if line, dup := r.first[res.key()]; dup {
		r.problem(d, "%s is already on line %d", res, line)
		return
	}
	r.first[res.key()] = d.Line()
	r.resources = append(r.resources, res)
}

// decode reads a resource by its "@type", or as the type its fields belong to.
func (r *reader) decode(d bootstrap.Document) (string, proto.Message, bool) {
	var into proto.Message
	var typeURL string
	t, typed := d.Get("@type")
	if typed {
		into = new(anypb.Any)
	} else {
		k, why := recognise(d.Keys())
		if why != "" {
			r.problem(d, "%s", why)
			return "", nil, false
		}
		typeURL, into = k.typeURL, k.make()
	}
	report, err := d.Decode(into, bootstrap.Options{KeepUnknownTypes: true})
	r.warnings = append(r.warnings, report.Warnings...)
	if err != nil {
		if e, ok := err.(*bootstrap.Error); ok {
			r.problems = append(r.problems, e.Findings...)
		} else {
			r.problem(d, "%v", err)
		}
		return "", nil, false
	}
	if !typed {
		return typeURL, into, true
	}
	body := into.(*anypb.Any)
	k, _, ok := kindOf(body.GetTypeUrl())
	if !ok {
		r.problem(t, "%q is no resource that can be served here; known are %s", t.Text(), knownTypes())
		return "", nil, false
	}
	m := k.make()
	if err := body.UnmarshalTo(m); err != nil {
		r.problem(d, "%v", err)
		return "", nil, false
	}
	return k.typeURL, m, true
}

func knownTypes() string {
	var out []string
	for _, k := range kinds() {
		out = append(out, string(k.make().ProtoReflect().Descriptor().Name()))
	}
	return strings.Join(out, ", ")
}

// recognise finds the one type that has the most of these fields. A misspelt field
// doesn't change the verdict, so that the decoder can complain about it by name.
func recognise(keys []string) (kind, string) {
	var best []kind
	most := 0
	for _, k := range kinds() {
		fields := k.make().ProtoReflect().Descriptor().Fields()
		n := 0
		for _, key := range keys {
			if fields.ByName(protoreflect.Name(key)) != nil || fields.ByJSONName(key) != nil {
				n++
			}
		}
		switch {
		case n > most:
			best, most = []kind{k}, n
		case n == most && n > 0:
			best = append(best, k)
		}
	}
	switch {
	case len(best) == 1:
		return best[0], ""
	case len(best) == 0:
		return kind{}, fmt.Sprintf(`no resource has a field %s; say what this is with "@type"`, quoteAll(keys))
	}
	var names []string
	for _, k := range best {
		names = append(names, string(k.make().ProtoReflect().Descriptor().Name()))
	}
	return kind{}, fmt.Sprintf(`this could be a %s; say which with "@type"`, strings.Join(names, " or a "))
}

func quoteAll(keys []string) string {
	keys = slices.Clone(keys[:min(len(keys), 5)])
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%q", k)
	}
	return strings.Join(keys, " or ")
}
