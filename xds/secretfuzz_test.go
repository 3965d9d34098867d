package xds

import (
	"strings"
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// mark is what is secret in oddSecrets.
const mark = "s3cr3t-of-the-seed"

// oddSecrets are refused, but for the first one.
var oddSecrets = []string{
	`name: "a" generic_secret { secret { inline_string: "` + mark + `" } }`,
	`name: "a" session_ticket_keys { keys { inline_bytes: "` + mark + `" } }`,
	`name: "a" tls_certificate { certificate_chain { inline_string: "-----BEGIN CERTIFICATE-----" } private_key { inline_string: "` + mark + `" } password { inline_string: "` + mark + `" } }`,
	`name: "a" validation_context { trusted_ca { inline_string: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----" } match_typed_subject_alt_names { san_type: URI matcher { prefix: "spiffe://" } } }`,
	`name: "a"`,
}

func oddSecret(t testing.TB, text string) *tlsv3.Secret {
	t.Helper()
	pb := &tlsv3.Secret{}
	if err := prototext.Unmarshal([]byte(text), pb); err != nil {
		t.Fatal(err)
	}
	return pb
}

// TestRefusedSecretIsNotQuoted: neither the error nor what config_dump shows of it.
func TestRefusedSecretIsNotQuoted(t *testing.T) {
	for i, text := range oddSecrets {
		pb := oddSecret(t, text)
		if _, err := parseSecret(pb, &filter.Parser{}); (err == nil) != (i == 0) || err != nil && strings.Contains(err.Error(), mark) {
			t.Errorf("%s: %v", text, err)
		}
		body, err := anypb.New(pb)
		if err != nil {
			t.Fatal(err)
		}
		if out := (shown{}).any(body, false); strings.Contains(string(out.GetValue()), mark) {
			t.Errorf("%s is shown as %q", text, out.GetValue())
		}
	}
}

// FuzzSecret: bytes that call themselves a secret are an error at worst.
func FuzzSecret(f *testing.F) {
	for _, text := range oddSecrets {
		raw, err := proto.Marshal(oddSecret(f, text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(_ *testing.T, raw []byte) {
		pb := &tlsv3.Secret{}
		if proto.Unmarshal(raw, pb) != nil || filesOf(pb) != nil { // files of this machine are not read
			return
		}
		_, _ = parseSecret(pb, &filter.Parser{}) // only must not panic
	})
}
