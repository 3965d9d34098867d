package bootstrap

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxSourceBytes bounds one configuration file. The largest bootstraps known
// carry a few megabytes of static resources.
const maxSourceBytes = 64 << 20

// A Format is how the bytes of a Source are written.
type Format uint8

// The formats Envoy knows by file name (.json, .yaml/.yml, .pb, .pb_text).
const (
	// FormatAuto takes the format from the name and, where that says nothing
	// (a FIFO, standard input), from the content.
	FormatAuto Format = iota
	FormatJSON
	FormatYAML
	FormatBinary
	FormatText
)

// A Source is one configuration text.
type Source struct {
	// Name appears in every message and decides the format under FormatAuto.
	Name string
	// Data is lent: it is read during the call, and never written.
	Data []byte
	// Format overrides what Name and Data suggest.
	Format Format
}

// ReadSource reads the file at path once, from its start to its end, without
// asking for its size or going back: it may be a FIFO or /dev/fd/N.
func ReadSource(path string) (Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return Source{}, cannotRead(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSourceBytes+1))
	if err != nil {
		return Source{}, cannotRead(path, err)
	}
	if len(data) > maxSourceBytes {
		return Source{}, refuse(path, 0, "", "larger than %d MiB, the most a configuration file may hold", maxSourceBytes>>20)
	}
	return Source{Name: path, Data: data}, nil
}

// cannotRead drops the operation and path the os package puts before the cause:
// the finding names the file itself.
func cannotRead(path string, err error) *Error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return refuse(path, 0, "", "cannot read: %v", err)
}

// format settles FormatAuto.
func (s Source) format() Format {
	if s.Format != FormatAuto {
		return s.Format
	}
	name := strings.ToLower(s.Name)
	switch {
	case strings.HasSuffix(name, ".json"):
		return FormatJSON
	case strings.HasSuffix(name, ".yaml"), strings.HasSuffix(name, ".yml"):
		return FormatYAML
	case strings.HasSuffix(name, ".pb"):
		return FormatBinary
	case strings.HasSuffix(name, ".pb_text"):
		return FormatText
	}
	return FormatAuto
}

// looksLikeJSON tells whether text opens as a JSON object or array does.
func looksLikeJSON(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && (data[0] == '{' || data[0] == '[')
}

// bom is the byte order mark some editors put before UTF-8.
var bom = []byte("\xef\xbb\xbf")

// tree parses s, which is not binary, into one node per document. A text that
// opens like JSON is read as JSON first, also under a YAML name: YAML has no
// surrogate pairs, limits the length of a key, and is slower. Only a .json
// name forbids the second attempt.
func (s Source) tree() ([]*node, error) {
	data := bytes.TrimPrefix(s.Data, bom)
	f := s.format()
	if f == FormatJSON || looksLikeJSON(data) {
		n, jsonErr := parseJSON(s.Name, data)
		if jsonErr == nil {
			return []*node{n}, nil
		}
		if f == FormatJSON {
			return nil, jsonErr
		}
		docs, err := parseYAML(s.Name, data)
		if err != nil && f == FormatAuto {
			return nil, jsonErr
		}
		return docs, err
	}
	return parseYAML(s.Name, data)
}
