package fromproto

import (
	"errors"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Unmarshal decodes a message and checks the constraints that its schema states
// (validate.rules). Messages inside an Any are not looked into: whoever unpacks one
// checks it.
func Unmarshal(raw []byte, m proto.Message) error {
	if err := proto.Unmarshal(raw, m); err != nil {
		return err
	}
	return Validate(m)
}

// Validate checks the constraints that the schema of m states. The error is about the
// first that is broken and has the path of its field.
func Validate(m proto.Message) error {
	if v, ok := m.(interface{ Validate() error }); ok {
		return violation(v.Validate())
	}
	return nil
}

// violation gives what the generated checks say a path.
func violation(err error) error {
	v, ok := err.(interface {
		Field() string
		Reason() string
		Cause() error
	})
	if !ok {
		return err
	}
	field, index, indexed := strings.Cut(v.Field(), "[")
	path := snake(field)
	if indexed {
		path += "[" + index
	}
	if cause := v.Cause(); cause != nil {
		inner := violation(cause)
		if _, nested := inner.(*filter.PathError); nested {
			return filter.At(path, inner)
		}
		return filter.At(path, errors.New(plain(v.Reason())+": "+cause.Error()))
	}
	return filter.At(path, errors.New(plain(v.Reason())))
}

// plain says the commonest constraints in plain words.
func plain(reason string) string {
	switch reason {
	case "value is required":
		return "is required"
	case "value length must be at least 1 runes", "value length must be at least 1 bytes":
		return "must not be empty"
	case "value must contain at least 1 item(s)":
		return "needs at least one item"
	}
	return reason
}

// snake turns the Go name of a field into its proto name.
func snake(name string) string {
	var sb strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) {
			if i > 0 {
				sb.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		sb.WriteRune(r)
	}
	return sb.String()
}

// element is the path of an entry of a map.
func element(field, key string) string { return field + "[" + strconv.Quote(key) + "]" }
