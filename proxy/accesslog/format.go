package accesslog

// Format is a compiled format. It is immutable and safe for concurrent use.
type Format struct {
	pieces []piece
	root   node // of a JSON format
	json   bool
	omit   bool
}

// Options change what a format does with missing values.
type Options struct {
	// OmitEmpty prints nothing for a missing value, where "-" (null in JSON) is
	// printed otherwise, and leaves it out of JSON altogether (omit_empty_values).
	// Header values are made this way.
	OmitEmpty bool
}

// Compile compiles a text format (text_format_source). A missing value prints "-".
// An error says at which byte of the format it is and what is wrong there.
func Compile(format string) (*Format, error) { return CompileText(format, Options{}) }

// CompileText is Compile with options.
func CompileText(format string, o Options) (*Format, error) {
	pieces, err := parse(format)
	if err != nil {
		return nil, err
	}
	return &Format{pieces: pieces, omit: o.OmitEmpty}, nil
}

// Literal returns the text of a format without operators.
func (f *Format) Literal() (string, bool) {
	switch {
	case f.json:
		return "", false
	case len(f.pieces) == 0:
		return "", true
	case len(f.pieces) == 1 && f.pieces[0].op == nil:
		return f.pieces[0].text, true
	}
	return "", false
}

// IsJSON reports whether the format makes JSON.
func (f *Format) IsJSON() bool { return f.json }

// Append appends the entry. It allocates nothing but what dst needs to grow.
func (f *Format) Append(dst []byte, e *Entry) []byte {
	if f.json {
		start := len(dst)
		dst, _ = f.root.append(dst, e, f.omit)
		if len(dst) == start {
			dst = append(dst, "{}"...)
		}
		return append(dst, '\n')
	}
	return appendPieces(dst, f.pieces, e, f.omit)
}

func appendPieces(dst []byte, pieces []piece, e *Entry, omit bool) []byte {
	for i := range pieces {
		p := &pieces[i]
		if p.op == nil {
			dst = append(dst, p.text...)
			continue
		}
		var ok bool
		if dst, ok = p.op.appendText(dst, e, false); !ok && !omit {
			dst = append(dst, '-')
		}
	}
	return dst
}
