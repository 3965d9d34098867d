package control

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// maxFields is how many changed fields of one resource a log line names.
const maxFields = 3

// changes says in words what differs between two sets, one line for each resource:
//
//	changed routes shop: virtual_hosts[0].routes[0].route.weighted_clusters.clusters[1].weight 10 -> 50
func changes(old, new Set) []string {
	var out []string
	for _, r := range new.sorted() {
		before, had := old[r.key()]
		switch {
		case !had:
			out = append(out, "added "+r.String())
		case before.digest != r.digest:
			out = append(out, "changed "+r.String()+fields(before, r))
		}
	}
	for _, r := range old.sorted() {
		if _, has := new[r.key()]; !has {
			out = append(out, "removed "+r.String())
		}
	}
	return out
}

func fields(old, new *Resource) string {
	if new.TypeURL == ads.SecretType {
		return "" // nothing of a secret belongs into a log
	}
	d := differ{}
	d.message("", old.Message.ProtoReflect(), new.Message.ProtoReflect())
	if len(d.out) == 0 {
		return ""
	}
	text := ": " + strings.Join(d.out[:min(len(d.out), maxFields)], ", ")
	if more := len(d.out) - maxFields; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// differ collects the fields in which two messages differ.
type differ struct{ out []string }

// secretive are messages whose values may be credentials: only the place is said.
func secretive(name protoreflect.Name) bool {
	return name == "DataSource" || name == "HeaderValue" || name == "Secret"
}

func (d *differ) message(path string, a, b protoreflect.Message) {
	if a.Descriptor().FullName() != b.Descriptor().FullName() {
		d.out = append(d.out, path)
		return
	}
	if x, ok := a.Interface().(*anypb.Any); ok {
		d.any(path, x, b.Interface().(*anypb.Any))
		return
	}
	fds := a.Descriptor().Fields()
	for i := range fds.Len() {
		fd := fds.Get(i)
		if !a.Has(fd) && !b.Has(fd) {
			continue
		}
		p := strings.TrimPrefix(path+"."+string(fd.Name()), ".")
		switch {
		case fd.IsMap():
			if !a.Get(fd).Equal(b.Get(fd)) {
				d.out = append(d.out, p)
			}
		case fd.IsList():
			d.list(p, fd, a.Get(fd).List(), b.Get(fd).List())
		case fd.Message() != nil:
			switch {
			case !a.Has(fd):
				d.out = append(d.out, p+" added")
			case !b.Has(fd):
				d.out = append(d.out, p+" removed")
			default:
				d.message(p, a.Get(fd).Message(), b.Get(fd).Message())
			}
		case !a.Get(fd).Equal(b.Get(fd)):
			if secretive(a.Descriptor().Name()) {
				d.out = append(d.out, p)
			} else {
				d.out = append(d.out, fmt.Sprintf("%s %s -> %s", strings.TrimSuffix(p, ".value"), show(fd, a.Get(fd)), show(fd, b.Get(fd))))
			}
		}
	}
}

// any looks into two packed messages of a known type.
func (d *differ) any(path string, a, b *anypb.Any) {
	if proto.Equal(a, b) {
		return
	}
	x, errX := a.UnmarshalNew()
	y, errY := b.UnmarshalNew()
	if errX != nil || errY != nil || a.GetTypeUrl() != b.GetTypeUrl() {
		d.out = append(d.out, path)
		return
	}
	d.message(path, x.ProtoReflect(), y.ProtoReflect())
}

func (d *differ) list(path string, fd protoreflect.FieldDescriptor, a, b protoreflect.List) {
	if a.Len() != b.Len() {
		d.out = append(d.out, fmt.Sprintf("%s: %d -> %d entries", path, a.Len(), b.Len()))
		return
	}
	for i := range a.Len() {
		p := fmt.Sprintf("%s[%d]", path, i)
		if fd.Message() != nil {
			d.message(p, a.Get(i).Message(), b.Get(i).Message())
		} else if !a.Get(i).Equal(b.Get(i)) {
			d.out = append(d.out, fmt.Sprintf("%s %s -> %s", p, show(fd, a.Get(i)), show(fd, b.Get(i))))
		}
	}
}

func show(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch fd.Kind() {
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
	case protoreflect.StringKind:
		s := v.String()
		if len(s) > 60 {
			s = strings.ToValidUTF8(s[:60], "") + "..."
		}
		if s == "" {
			return `""`
		}
		return s
	case protoreflect.BytesKind:
		return fmt.Sprintf("%d bytes", len(v.Bytes()))
	}
	return v.String()
}
