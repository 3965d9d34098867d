package fromproto

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Bytes reads a DataSource of at most limit bytes: inline, from a file, or from the
// environment. Files are read now; a watched_directory is refused.
func Bytes(pb *corev3.DataSource, limit int) (string, error) {
	if pb.GetWatchedDirectory() != nil {
		return "", filter.At("watched_directory", errors.New("this build does not watch data sources"))
	}
	var text, at string
	switch s := pb.GetSpecifier().(type) {
	case *corev3.DataSource_InlineString:
		text, at = s.InlineString, "inline_string"
	case *corev3.DataSource_InlineBytes:
		text, at = string(s.InlineBytes), "inline_bytes"
	case *corev3.DataSource_Filename:
		return readFile(s.Filename, limit)
	case *corev3.DataSource_EnvironmentVariable:
		v, ok := os.LookupEnv(s.EnvironmentVariable)
		if !ok {
			return "", filter.At("environment_variable", fmt.Errorf("%s is not set", s.EnvironmentVariable))
		}
		text, at = v, "environment_variable"
	case nil:
		return "", errors.New("one of filename, inline_bytes, inline_string, environment_variable must be set")
	default:
		return "", fmt.Errorf("this build does not support %T", s)
	}
	if len(text) > limit {
		return "", filter.At(at, tooLarge(int64(len(text)), limit))
	}
	return text, nil
}

// maxPassword bounds user names and passwords.
const maxPassword = 64 << 10

// Password reads a user name or a password, "" if d is nil. The line end with which editors
// close a file is no part of it.
func Password(d *corev3.DataSource) (string, error) {
	if d == nil {
		return "", nil
	}
	text, err := Bytes(d, maxPassword)
	if _, inFile := d.Specifier.(*corev3.DataSource_Filename); inFile {
		text = strings.TrimRight(text, "\r\n")
	}
	return text, err
}

func tooLarge(n int64, limit int) error {
	return fmt.Errorf("has %d bytes, more than the %d that are allowed", n, limit)
}

// OpenFile opens a file that configuration names for reading, and returns its size. It must be
// a regular one: a pipe would make who reads it wait, with locks, for whoever writes it.
func OpenFile(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file (%v)", path, info.Mode().Type())
	}
	if err != nil {
		_ = f.Close() // nothing was done with it
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func readFile(path string, limit int) (string, error) {
	f, size, err := OpenFile(path)
	if err != nil {
		return "", filter.At("filename", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	if size > int64(limit) {
		return "", filter.At("filename", tooLarge(size, limit))
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(b) > limit { // it has grown
		err = tooLarge(int64(len(b)), limit)
	}
	return string(b), filter.At("filename", err)
}

// maxFormat is how long a format from a data source may be.
const maxFormat = 1 << 20

// Formatters refuses the formatter extensions of a list named formatters that this
// build does not have; the others' operators are always there.
func Formatters(list []*corev3.TypedExtensionConfig) error {
	for i, f := range list {
		c, err := Any(f.GetTypedConfig())
		if err == nil && !knownFormatter(c.Type) {
			err = fmt.Errorf("this build does not support the formatter %q", c.Type)
		}
		if err != nil {
			return filter.AtIndex("formatters", i, filter.At("typed_config", err))
		}
	}
	return nil
}

// Format converts a SubstitutionFormatString.
func Format(pb *corev3.SubstitutionFormatString) (*accesslog.Format, error) {
	if err := Formatters(pb.GetFormatters()); err != nil {
		return nil, err
	}
	o := accesslog.Options{OmitEmpty: pb.GetOmitEmptyValues()}
	switch f := pb.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormat:
		out, err := accesslog.CompileText(f.TextFormat, o)
		return out, filter.At("text_format", err)
	case *corev3.SubstitutionFormatString_TextFormatSource:
		text, err := Bytes(f.TextFormatSource, maxFormat)
		if err != nil {
			return nil, filter.At("text_format_source", err)
		}
		out, err := accesslog.CompileText(text, o)
		return out, filter.At("text_format_source", err)
	case *corev3.SubstitutionFormatString_JsonFormat:
		return accesslog.CompileJSON(f.JsonFormat.AsMap(), o)
	case nil:
		return nil, errors.New("one of text_format, json_format, text_format_source must be set")
	default:
		return nil, fmt.Errorf("this build does not support %T", f)
	}
}

// ContentType is that of what a SubstitutionFormatString makes.
func ContentType(pb *corev3.SubstitutionFormatString) string {
	switch {
	case pb.ContentType != "":
		return pb.ContentType
	case pb.GetJsonFormat() != nil:
		return "application/json"
	}
	return "text/plain"
}

// knownFormatter names the formatter extensions whose operators are always there.
func knownFormatter(typ string) bool {
	switch typ {
	case "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery",
		"envoy.extensions.formatter.metadata.v3.Metadata":
		return true
	}
	return false
}
