package bootstrap

import (
	"errors"
	"os"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// FuzzDecode feeds arbitrary text to every notation. Whatever comes, the loader
// answers with a message that survives the wire or with an *Error that says
// something.
func FuzzDecode(f *testing.F) {
	for _, c := range readRefusals(f) {
		f.Add([]byte(c.input), uint8(len(c.input)%5))
	}
	for _, c := range acceptedCases() {
		f.Add([]byte(c.input), uint8(0))
	}
	if sidecar, err := os.ReadFile("testdata/sidecar.json"); err == nil {
		f.Add(sidecar, uint8(FormatJSON))
	}
	f.Fuzz(func(t *testing.T, data []byte, format uint8) {
		src := Source{Name: "f", Data: data, Format: Format(format % 5)}
		b := new(bootstrapv3.Bootstrap)
		for _, o := range []Options{{}, {AllowUnknownFields: true, KeepUnknownTypes: true}} {
			report, err := Decode(src, b, o)
			if len(report.Warnings) > maxFindings {
				t.Errorf("%d warnings", len(report.Warnings))
			}
			var refused *Error
			switch {
			case err == nil:
				wire, err := proto.Marshal(b)
				if err != nil {
					t.Fatalf("accepted, but cannot be encoded: %v", err)
				}
				if err := proto.Unmarshal(wire, new(bootstrapv3.Bootstrap)); err != nil {
					t.Fatalf("accepted, but cannot be read back: %v", err)
				}
			case !errors.As(err, &refused):
				t.Fatalf("error of type %T", err)
			case len(refused.Findings) == 0 || refused.Findings[0].Text == "" || len(refused.Findings) > maxFindings:
				t.Fatalf("refused with %v", refused.Findings)
			}
		}
	})
}

// FuzzUnwrap feeds arbitrary bytes to the way TypedStruct takes from the wire.
func FuzzUnwrap(f *testing.F) {
	f.Add("type.googleapis.com/udpa.type.v1.TypedStruct", []byte("\n\x03a/b"))
	f.Add("type.googleapis.com/xds.type.v3.TypedStruct", []byte{})
	f.Add("", []byte{0})
	f.Fuzz(func(t *testing.T, url string, value []byte) {
		m, _, err := Unwrap(&anypb.Any{TypeUrl: url, Value: value}, Options{AllowUnknownFields: true})
		if (m == nil) != (err != nil) {
			t.Errorf("message %v, error %v", m, err)
		}
	})
}
